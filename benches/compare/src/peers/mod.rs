//! The peers, each in its own file: one adapter, and what its source says about its promises.

mod commitlog;
mod fjall;
mod khata;
mod okaywal;
mod rewal;
mod sqlite;
mod walrus;

use std::path::Path;

use crate::cell::{self, Cell, Figures};
use crate::harness::{Card, Peer, Result};
use crate::headwater::{Headwater, Way};

/// A peer whose log type is forgotten, so that all fit in one list.
pub(crate) trait Contender {
    fn card(&self) -> Card;
    fn run(&self, cell: &Cell, dir: &Path) -> Result<Figures>;
}

impl<P: Peer> Contender for P {
    fn card(&self) -> Card {
        Peer::card(self)
    }

    fn run(&self, cell: &Cell, dir: &Path) -> Result<Figures> {
        cell::run(self, cell, dir)
    }
}

/// All contenders in the order of the tables.
pub(crate) fn all() -> Vec<Box<dyn Contender>> {
    vec![
        Box::new(Headwater { way: Way::Waiting }),
        Box::new(Headwater { way: Way::Nowait }),
        Box::new(walrus::WalrusRust),
        Box::new(commitlog::Commitlog),
        Box::new(okaywal::Okaywal),
        Box::new(rewal::Rewal),
        Box::new(khata::Khata),
        Box::new(fjall::Fjall),
        Box::new(sqlite::Sqlite),
    ]
}
