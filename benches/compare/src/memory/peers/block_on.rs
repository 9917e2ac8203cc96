//! The smallest executor: one future, whose thread parks while it is pending.

use std::cell::OnceCell;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    thread_local! {
        /// Made once a thread: an allocation for each value would be what is measured.
        static WAKER: OnceCell<Waker> = const { OnceCell::new() };
    }
    let mut future = pin!(future);
    WAKER.with(|waker| {
        let waker = waker.get_or_init(|| Arc::new(Unparker(thread::current())).into());
        let mut context = Context::from_waker(waker);
        loop {
            match future.as_mut().poll(&mut context) {
                Poll::Ready(output) => return output,
                Poll::Pending => thread::park(),
            }
        }
    })
}

struct Unparker(Thread);

impl Wake for Unparker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}
