//! RFC 3339 as Go's `time.Parse` reads it, down to the words of its errors.
use jiff::civil::date;
use jiff::tz::Offset;

/// `metav1.Time`'s layout, and `metav1.MicroTime`'s.
const SECONDS: &str = "2006-01-02T15:04:05Z07:00";
const MICROS: &str = "2006-01-02T15:04:05.000000Z07:00";

/// The canonical form of a time (UTC, whole seconds), or of a micro time (UTC, six digits).
pub(crate) fn canonical(text: &str, micro: bool) -> Result<String, String> {
    let time = Parser { text, rest: text, layout: if micro { MICROS } else { SECONDS } }.parse(micro)?;
    let format = if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(time.strftime(format).to_string())
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    layout: &'static str,
}

impl Parser<'_> {
    fn parse(mut self, micro: bool) -> Result<jiff::Timestamp, String> {
        let year = self.digits(4, "2006")?;
        self.literal("-")?;
        let month = self.digits(2, "01")?;
        self.range(month, 1..=12, "month")?;
        self.literal("-")?;
        let day = self.digits(2, "02")?;
        self.literal("T")?;
        let hour = self.digits(2, "15")?;
        self.range(hour, 0..=23, "hour")?;
        self.literal(":")?;
        let minute = self.digits(2, "04")?;
        self.range(minute, 0..=59, "minute")?;
        self.literal(":")?;
        let second = self.digits(2, "05")?;
        self.range(second, 0..=59, "second")?;
        let nanos = self.fraction(micro)?;
        let offset = self.zone()?;
        if !self.rest.is_empty() {
            return Err(format!("parsing time {:?}: extra text: {:?}", self.text, self.rest));
        }
        // The day is checked last, against its month.
        let first = date(year as i16, month as i8, 1);
        self.range(day, 1..=i32::from(first.days_in_month()), "day")?;
        let civil = date(year as i16, month as i8, day as i8).at(hour as i8, minute as i8, second as i8, nanos);
        let utc = civil.checked_sub(jiff::SignedDuration::from_secs(offset)).map_err(|_| self.out_of_range("time"))?;
        Offset::UTC.to_timestamp(utc).map_err(|_| self.out_of_range("time"))
    }

    fn fail(&self, value: &str, element: &str) -> String {
        format!("parsing time {:?} as {:?}: cannot parse {value:?} as {element:?}", self.text, self.layout)
    }
    fn out_of_range(&self, what: &str) -> String {
        format!("parsing time {:?}: {what} out of range", self.text)
    }
    fn range(&self, value: i32, range: std::ops::RangeInclusive<i32>, what: &str) -> Result<(), String> {
        if range.contains(&value) { Ok(()) } else { Err(self.out_of_range(what)) }
    }
    fn literal(&mut self, literal: &str) -> Result<(), String> {
        self.rest = self.rest.strip_prefix(literal).ok_or_else(|| self.fail(self.rest, literal))?;
        Ok(())
    }
    fn digits(&mut self, count: usize, element: &str) -> Result<i32, String> {
        let digits = self.rest.get(..count).filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
        let value = digits.and_then(|d| d.parse().ok()).ok_or_else(|| self.fail(self.rest, element))?;
        self.rest = &self.rest[count..];
        Ok(value)
    }

    /// Nanoseconds. A fraction may always follow the seconds; a micro time must have exactly six digits.
    fn fraction(&mut self, micro: bool) -> Result<i32, String> {
        let digits = self.rest.strip_prefix(['.', ',']).map_or(0, |r| r.bytes().take_while(u8::is_ascii_digit).count());
        if micro && (digits < 6 || !self.rest.starts_with('.')) {
            return Err(self.fail(self.rest, ".000000"));
        }
        let digits = if micro { 6 } else { digits };
        if digits == 0 {
            return Ok(0);
        }
        let mut nanos = 0;
        for digit in self.rest.bytes().skip(1).take(digits).chain(std::iter::repeat(b'0')).take(9) {
            nanos = nanos * 10 + i32::from(digit - b'0');
        }
        self.rest = &self.rest[1 + digits..];
        Ok(nanos)
    }

    /// Seconds east of UTC.
    fn zone(&mut self) -> Result<i64, String> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let held = self.rest;
        let fail = |parser: &Self| parser.fail(held, "Z07:00");
        let zone = held.get(..6).ok_or_else(|| fail(self))?.as_bytes();
        let number = |at: usize| zone[at..at + 2].iter().all(u8::is_ascii_digit).then(|| i64::from(zone[at] - b'0') * 10 + i64::from(zone[at + 1] - b'0'));
        let (Some(hours), Some(minutes), true) = (number(1), number(4), zone[3] == b':') else { return Err(fail(self)) };
        let sign = match zone[0] {
            b'+' => 1,
            b'-' => -1,
            _ => return Err(fail(self)),
        };
        if hours > 24 {
            return Err(self.out_of_range("time zone offset hour"));
        }
        if minutes > 60 {
            return Err(self.out_of_range("time zone offset minute"));
        }
        self.rest = &held[6..];
        Ok(sign * (hours * 3600 + minutes * 60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_refused_as_go_does() {
        for (text, micro, want) in [
            ("2020-01-02T03:04:05Z", false, "2020-01-02T03:04:05Z"),
            ("2020-01-01T00:00:00.75+02:00", false, "2019-12-31T22:00:00Z"),
            ("2020-02-29T23:59:59-01:30", false, "2020-03-01T01:29:59Z"),
            ("2020-01-02T03:04:05.123456Z", true, "2020-01-02T03:04:05.123456Z"),
        ] {
            assert_eq!(canonical(text, micro).as_deref(), Ok(want));
        }
        for (text, micro, want) in [
            ("x", false, r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#),
            ("", false, r#"parsing time "" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "2006""#),
            ("2020-01-02", false, r#"parsing time "2020-01-02" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T""#),
            ("2020-13-02T00:00:00Z", false, r#"parsing time "2020-13-02T00:00:00Z": month out of range"#),
            ("2021-02-29T00:00:00Z", false, r#"parsing time "2021-02-29T00:00:00Z": day out of range"#),
            ("2020-01-02T00:00:00", false, r#"parsing time "2020-01-02T00:00:00" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00""#),
            ("2020-01-02T00:00:00Zx", false, r#"parsing time "2020-01-02T00:00:00Zx": extra text: "x""#),
            ("2020-01-02T00:00:00Z", true, r#"parsing time "2020-01-02T00:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#),
            ("202é-01", false, r#"parsing time "202é-01" as "2006-01-02T15:04:05Z07:00": cannot parse "202é-01" as "2006""#),
        ] {
            assert_eq!(canonical(text, micro), Err(want.to_owned()), "{text}");
        }
    }
}
