//! Keeps the first panic of several steps that must all happen.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The first panic among steps that must all happen, kept until the last of them is done.
#[derive(Default)]
pub(crate) struct FirstPanic(Option<Box<dyn Any + Send>>);

impl FirstPanic {
    /// Runs a step; `None` if it panicked.
    pub(crate) fn run<R>(&mut self, step: impl FnOnce() -> R) -> Option<R> {
        // Unwind safety is the owner's to give: what a step leaves half done is seen by the next step too.
        match catch_unwind(AssertUnwindSafe(step)) {
            Ok(result) => Some(result),
            Err(panic) => {
                match &self.0 {
                    None => self.0 = Some(panic),
                    // Its destructor is a stranger's and might panic in turn; the hook has reported it already.
                    Some(_) => std::mem::forget(panic),
                }
                None
            }
        }
    }

    /// Lets the panic go on, unless the thread is unwinding from another one already, which a second would abort.
    pub(crate) fn resume(self) {
        match self.0 {
            Some(panic) if std::thread::panicking() => std::mem::forget(panic),
            Some(panic) => resume_unwind(panic),
            None => {}
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_step_runs_and_the_first_panic_is_the_one_that_goes_on() {
        let mut steps = 0;
        let mut first = FirstPanic::default();
        assert_eq!(first.run(|| 7), Some(7));
        for name in ["one", "two"] {
            let outcome = first.run(|| {
                steps += 1;
                resume_unwind(Box::new(name));
            });
            assert_eq!(outcome, None::<()>);
        }
        let panic = catch_unwind(AssertUnwindSafe(|| first.resume())).expect_err("the first panic goes on");
        assert_eq!((steps, panic.downcast_ref::<&str>()), (2, Some(&"one")));
    }
}
