//! kanal: a ring under a lock, with direct hand-over to whoever waits.

use std::time::Duration;

use kanal::{Receiver, Sender, bounded};

use crate::cell::Figures;
use crate::harness::Result;
use crate::memory::harness::{Able, Batches, Card, Consumer, PARKS, Peer, Producer, TRIES, Trying};
use crate::memory::payload::Payload;
use crate::memory::peers::{handles, is_channel_work};
use crate::memory::rally::{self, CAPACITY};
use crate::memory::{Cell, Pause, Rally, Stream};

pub(crate) struct Kanal;

impl Peer for Kanal {
    fn card(&self) -> Card {
        Card {
            name: "kanal",
            package: "kanal",
            notes: &["`bounded`; batches are `drain_into`, and `recv` when it finds nothing, as documented"],
        }
    }

    fn able(&self, cell: &Cell) -> Option<Able> {
        let waits = if matches!(cell, Cell::Rally(Rally { pause: Pause::Yield, .. })) { TRIES } else { PARKS };
        is_channel_work(cell).then_some(Able { waits, batches: Batches::ReceivesOnly })
    }

    fn stream<T: Payload>(&self, stream: &Stream) -> Result<Figures> {
        let (tx, rx) = bounded::<T>(stream.capacity);
        let members = handles(rx, stream.members).into_iter().map(Draining::new).collect();
        stream.run(handles(tx, stream.producers), vec![members])
    }

    fn rally(&self, pause: Pause, run: Duration) -> Result<Figures> {
        let ((tx, rx), (back_tx, back_rx)) = (bounded(CAPACITY), bounded(CAPACITY));
        match pause {
            Pause::Park => rally::run((tx, Draining::new(rx)), (back_tx, Draining::new(back_rx)), run),
            Pause::Yield => {
                let (rx, back_rx) = (move || rx.try_recv().ok().flatten(), move || back_rx.try_recv().ok().flatten());
                rally::run((tx, Trying(rx)), (back_tx, Trying(back_rx)), run)
            }
        }
    }
}

impl<T: Payload> Producer<T> for Sender<T> {
    fn send(&mut self, value: T) -> Result<()> {
        Ok(Sender::send(self, value)?)
    }
}

struct Draining<T> {
    receiver: Receiver<T>,
    drained: Vec<T>,
}

impl<T> Draining<T> {
    fn new(receiver: Receiver<T>) -> Self {
        Draining { receiver, drained: Vec::new() }
    }
}

impl<T: Payload> Consumer<T> for Draining<T> {
    fn receive(&mut self, see: &mut impl FnMut(&T)) -> Result<bool> {
        Ok(self.receiver.recv().map(|value| see(&value)).is_ok())
    }

    fn receive_batch(&mut self, see: &mut impl FnMut(&T)) -> Result<bool> {
        if self.receiver.drain_into(&mut self.drained)? == 0 {
            return self.receive(see);
        }
        self.drained.iter().for_each(see);
        self.drained.clear();
        Ok(true)
    }
}
