//! The date as answers bear it, written once a second.
use clock::Clock;
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// How old one may be.
const FRESH: Duration = Duration::from_millis(500);

thread_local! {
    static LAST: RefCell<Option<(Instant, String)>> = const { RefCell::new(None) };
}

/// Gives the date of now to a function.
pub fn with<T>(clock: &dyn Clock, use_it: impl FnOnce(&str) -> T) -> T {
    LAST.with_borrow_mut(|last| {
        let now = Instant::now();
        let known = last.take().filter(|(at, _)| now.duration_since(*at) < FRESH);
        let (_, text) = last.insert(known.unwrap_or_else(|| (now, text(clock))));
        use_it(text)
    })
}

fn text(clock: &dyn Clock) -> String {
    // Every date of a clock can be written.
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&clock.now()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_as_http_wants_it() {
        let written = with(&clock::SystemClock, str::to_owned);
        assert!(written.ends_with(" GMT") && written.len() == "Sun, 06 Nov 1994 08:49:37 GMT".len(), "{written}");
        assert_eq!(with(&clock::SystemClock, str::len), written.len());
    }
}
