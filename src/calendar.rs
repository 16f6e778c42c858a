//! Times as RFC 3339 writes them in UTC, to the second: `2026-11-28T19:00:00Z`. Pure and total.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECS_OF_DAY: u64 = 86_400;

/// 9999-12-31T23:59:59Z.
const LAST: u64 = 253_402_300_799;

/// Reads a time from 1970 to 9999.
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    let text = text.strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let valid = year >= 1970
        && (1..=12).contains(&month)
        && (1..=days_of_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    let days = days_before_year(year) + days_before_month(year, month) + day.checked_sub(1)?;
    let secs = days.checked_mul(SECS_OF_DAY)? + hour * 3_600 + minute * 60 + second;
    UNIX_EPOCH.checked_add(Duration::from_secs(secs)).filter(|_| valid)
}

/// Writes a time. What lies before 1970 or behind 9999 is written as the nearest that does not.
pub(crate) fn write(at: SystemTime) -> String {
    let secs = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).min(LAST);
    let (mut days, rest) = (secs / SECS_OF_DAY, secs % SECS_OF_DAY);
    // At most this year, and at least the one before it.
    let mut year = 1970 + days / 365;
    while days_before_year(year) > days {
        year -= 1;
    }
    days -= days_before_year(year);
    let mut month = 12;
    while days_before_month(year, month) > days {
        month -= 1;
    }
    let day = days - days_before_month(year, month) + 1;
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Three numbers of so many digits.
fn numbers(text: &str, between: char, digits: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(between);
    let mut found = [0; 3];
    for (number, digits) in found.iter_mut().zip(digits) {
        let part = parts.next()?;
        let plain = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        *number = part.parse().ok().filter(|_| plain)?;
    }
    parts.next().is_none().then_some(found)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// The days from 1970 to the beginning of a year.
fn days_before_year(year: u64) -> u64 {
    let before = year.saturating_sub(1);
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    year.saturating_sub(1970) * 365 + leaps(before).saturating_sub(leaps(1969))
}

fn days_before_month(year: u64, month: u64) -> u64 {
    (1..month).map(|month| days_of_month(year, month)).sum()
}

fn days_of_month(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(secs: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(secs)
    }

    #[test]
    fn known_times_are_read_and_written() {
        for (text, secs) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1999-12-31T23:59:59Z", 946_684_799),
            ("2000-02-29T00:00:00Z", 951_782_400),
            ("2024-12-31T00:00:00Z", 1_735_603_200),
            ("2026-11-28T19:00:00Z", 1_795_892_400),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("9999-12-31T23:59:59Z", LAST),
        ] {
            assert_eq!(parse(text), Some(at(secs)), "{text}");
            assert_eq!(write(at(secs)), text);
        }
        assert_eq!(write(at(LAST + 1)), "9999-12-31T23:59:59Z");
        assert_eq!(write(UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "Z",
            "2026-11-28",
            "2026-11-28 19:00:00Z",
            "2026-11-28T19:00:00",
            "2026-11-28T19:00:00+01:00",
            "2026-11-28T19:00:00.5Z",
            "2026-11-28T24:00:00Z",
            "2026-11-28T23:60:00Z",
            "2026-11-28T23:59:60Z",
            "2026-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "26-11-28T19:00:00Z",
            "2026-11-28T19:00Z",
            "2026-11-28T+9:00:00Z",
            "2026-11-28-01T19:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_second_reads_back(secs in 0..=LAST) {
            prop_assert_eq!(parse(&write(at(secs))), Some(at(secs)));
        }

        /// Day after day, by a naive calendar.
        #[test]
        fn the_day_after_is_the_next_day(days in 0..2_932_896_u64) {
            let date = |days: u64| -> Vec<u64> {
                let text = write(at(days * SECS_OF_DAY));
                text[..10].split('-').map(|part| part.parse().unwrap_or(0)).collect()
            };
            let (one, next) = (date(days), date(days + 1));
            let (year, month, day) = (one[0], one[1], one[2]);
            let last = day == days_of_month(year, month);
            let expected = match (last, month) {
                (false, _) => [year, month, day + 1],
                (true, 12) => [year + 1, 1, 1],
                (true, _) => [year, month + 1, 1],
            };
            prop_assert_eq!(next, expected);
        }

        #[test]
        fn any_text_is_judged(text in "\\PC{0,30}") {
            let _ = parse(&text);
        }
    }
}
