//! crossbeam-channel: the array channel that the others are measured against.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::cell::Figures;
use crate::harness::Result;
use crate::memory::harness::{Able, Batches, Card, Consumer, PARKS, Peer, Producer, TRIES, Trying};
use crate::memory::payload::Payload;
use crate::memory::peers::{handles, is_channel_work};
use crate::memory::rally::{self, CAPACITY};
use crate::memory::{Cell, Pause, Rally, Stream};

pub(crate) struct Crossbeam;

impl Peer for Crossbeam {
    fn card(&self) -> Card {
        Card { name: "crossbeam-channel", package: "crossbeam-channel", notes: &["`bounded`"] }
    }

    fn able(&self, cell: &Cell) -> Option<Able> {
        let waits = if matches!(cell, Cell::Rally(Rally { pause: Pause::Yield, .. })) { TRIES } else { PARKS };
        is_channel_work(cell).then_some(Able { waits, batches: Batches::None })
    }

    fn stream<T: Payload>(&self, stream: &Stream) -> Result<Figures> {
        let (tx, rx) = bounded::<T>(stream.capacity);
        stream.run(handles(tx, stream.producers), vec![handles(rx, stream.members)])
    }

    fn rally(&self, pause: Pause, run: Duration) -> Result<Figures> {
        let ((tx, rx), (back_tx, back_rx)) = (bounded(CAPACITY), bounded(CAPACITY));
        match pause {
            Pause::Park => rally::run((tx, rx), (back_tx, back_rx), run),
            Pause::Yield => {
                let (rx, back_rx) = (move || rx.try_recv().ok(), move || back_rx.try_recv().ok());
                rally::run((tx, Trying(rx)), (back_tx, Trying(back_rx)), run)
            }
        }
    }
}

impl<T: Payload> Producer<T> for Sender<T> {
    fn send(&mut self, value: T) -> Result<()> {
        Sender::send(self, value).map_err(|_| "the channel is closed".into())
    }
}

impl<T: Payload> Consumer<T> for Receiver<T> {
    fn receive(&mut self, see: &mut impl FnMut(&T)) -> Result<bool> {
        Ok(self.recv().map(|value| see(&value)).is_ok())
    }
}
