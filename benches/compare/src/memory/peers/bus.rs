//! bus: one producer, every consumer sees every value.

use std::time::Duration;

use bus::{Bus, BusReader};

use crate::cell::Figures;
use crate::harness::Result;
use crate::memory::harness::{Able, Batches, Card, Consumer, PARKS, Peer, Producer, TRIES, Trying};
use crate::memory::payload::Payload;
use crate::memory::rally::{self, CAPACITY};
use crate::memory::{Cell, Pause, Rally, Stream};

pub(crate) struct Broadcasting;

impl Peer for Broadcasting {
    fn card(&self) -> Card {
        Card {
            name: "bus",
            package: "bus",
            notes: &["one producer only, no sharing; a thread of its own unparks readers; parks for 100 µs at most"],
        }
    }

    fn able(&self, cell: &Cell) -> Option<Able> {
        let able = Able { waits: PARKS, batches: Batches::None };
        match cell {
            Cell::Stream(Stream { producers: 1, members: 1, .. }) => Some(able),
            Cell::Stream(_) => None,
            Cell::Rally(Rally { pause: Pause::Park, .. }) => Some(able),
            Cell::Rally(Rally { pause: Pause::Yield, .. }) => Some(Able { waits: TRIES, ..able }),
        }
    }

    fn stream<T: Payload>(&self, stream: &Stream) -> Result<Figures> {
        let mut bus = Bus::<T>::new(stream.capacity);
        let groups = (0..stream.groups).map(|_| vec![bus.add_rx()]).collect();
        stream.run(vec![bus], groups)
    }

    fn rally(&self, pause: Pause, run: Duration) -> Result<Figures> {
        let (mut there, mut back) = (Bus::new(CAPACITY), Bus::new(CAPACITY));
        let (mut rx, mut back_rx) = (there.add_rx(), back.add_rx());
        match pause {
            Pause::Park => rally::run((there, rx), (back, back_rx), run),
            Pause::Yield => {
                let (rx, back_rx) = (move || rx.try_recv().ok(), move || back_rx.try_recv().ok());
                rally::run((there, Trying(rx)), (back, Trying(back_rx)), run)
            }
        }
    }
}

impl<T: Payload> Producer<T> for Bus<T> {
    fn send(&mut self, value: T) -> Result<()> {
        self.broadcast(value);
        Ok(())
    }
}

impl<T: Payload> Consumer<T> for BusReader<T> {
    fn receive(&mut self, see: &mut impl FnMut(&T)) -> Result<bool> {
        Ok(self.recv().map(|value| see(&value)).is_ok())
    }
}
