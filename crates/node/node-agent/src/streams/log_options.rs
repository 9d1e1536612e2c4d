//! Log options: what part of a container's log a request asks for.
use super::error::Refusal;
use super::query::Query;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};

/// As the API's PodLogOptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    pub follow: bool,
    pub previous: bool,
    /// Lines from before are left out.
    pub since: Option<Timestamp>,
    /// Each line starts with its time.
    pub timestamps: bool,
    /// Only so many lines from the end; parts of long lines count as lines.
    pub tail_lines: Option<u64>,
    /// Only so many bytes of output.
    pub limit_bytes: Option<u64>,
    pub stream: LogStreams,
}

/// Which of a container's outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogStreams {
    #[default]
    All,
    Stdout,
    Stderr,
}

impl LogOptions {
    /// # Errors
    /// 400 for values that are no numbers or times, 422 for ones out of range, as the kubelet.
    pub fn parse(query: &Query, now: Timestamp) -> Result<Self, Refusal> {
        let undecodable = || Refusal::bad_request("{\"message\": \"Unable to decode query.\"}");
        let invalid = || Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "{\"message\": \"Invalid request.\"}");
        let number = |name: &str, least: i64| match query.first(name).filter(|text| !text.is_empty()) {
            None => Ok(None),
            Some(text) => match text.parse::<i64>() {
                Ok(number) if number < least => Err(invalid()),
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(undecodable()),
            },
        };
        let since_seconds = number("sinceSeconds", 1)?;
        let since_time =
            query.first("sinceTime").filter(|text| !text.is_empty()).map(|text| text.parse::<Timestamp>().map_err(|_| undecodable())).transpose()?;
        let since = match (since_seconds, since_time) {
            (Some(_), Some(_)) => return Err(invalid()),
            (Some(seconds), None) => Some(now.saturating_sub(SignedDuration::from_secs(seconds)).map_err(|_| invalid())?),
            (None, time) => time,
        };
        let tail_lines = number("tailLines", 0)?.map(i64::unsigned_abs);
        let stream = match query.first("stream").unwrap_or_default() {
            "" | "All" => LogStreams::All,
            "Stdout" => LogStreams::Stdout,
            "Stderr" => LogStreams::Stderr,
            _ => return Err(invalid()),
        };
        if stream != LogStreams::All && tail_lines.is_some() {
            return Err(invalid());
        }
        Ok(Self {
            follow: query.flag("follow"),
            previous: query.flag("previous"),
            since,
            timestamps: query.flag("timestamps"),
            tail_lines,
            limit_bytes: number("limitBytes", 1)?.map(i64::unsigned_abs),
            stream,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<LogOptions, u16> {
        LogOptions::parse(&Query::parse(query), "2026-01-01T00:01:00Z".parse().unwrap()).map_err(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn options_are_the_apis() {
        assert_eq!(parse("").unwrap(), LogOptions::default());
        let options = parse("follow=true&previous=0&tailLines=0&limitBytes=9&sinceSeconds=60&timestamps=1").unwrap();
        assert!(options.follow && !options.previous && options.timestamps);
        assert_eq!((options.tail_lines, options.limit_bytes, options.since), (Some(0), Some(9), Some("2026-01-01T00:00:00Z".parse().unwrap())));
        assert_eq!(parse("sinceTime=2025-12-31T23%3A00%3A00%2B01%3A00").unwrap().since, Some("2025-12-31T22:00:00Z".parse().unwrap()));
    }

    #[test]
    fn bad_values_are_refused() {
        for bad in ["tailLines=x", "sinceTime=yesterday", "limitBytes=1.5"] {
            assert_eq!(parse(bad), Err(400), "{bad}");
        }
        for bad in
            ["tailLines=-1", "limitBytes=0", "sinceSeconds=0", "sinceSeconds=1&sinceTime=2025-12-31T23:00:00Z", "stream=Odd", "stream=Stdout&tailLines=1"]
        {
            assert_eq!(parse(bad), Err(422), "{bad}");
        }
    }
}
