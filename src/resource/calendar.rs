//! When a timer elapses: the calendar expressions of systemd, `systemd.time(7)`.

/// The words that stand for a whole expression.
const WORDS: [&str; 13] = [
    "minutely",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "yearly",
    "annually",
    "anually",
    "quarterly",
    "semiannually",
    "semi-annually",
    "biannually",
    "bi-annually",
];

/// Days of the week, long; the first three letters do as well.
const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// Whether systemd takes this as a calendar expression: `[Mon..Fri] [YYYY-MM-DD] [HH:MM[:SS]] [UTC or Region/City]`, or a
/// word such as `daily`.
pub(super) fn is_calendar(text: &str) -> bool {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    if words.len() > 1 && words.last().is_some_and(|word| is_zone(word)) {
        words.pop();
    }
    match words[..] {
        [] => false,
        [one] if WORDS.contains(&one.to_ascii_lowercase().as_str()) => true,
        [one] if one.starts_with('@') => is_epoch(&one[1..]),
        _ => {
            // Lists of days may have spaces after their commas.
            let days = words.iter().take_while(|word| is_days(word.trim_end_matches(','))).count();
            match words[days..] {
                [] => true,
                [date, time] => is_date(date) && is_time(time),
                [one] => is_date(one) || is_time(one),
                _ => false,
            }
        }
    }
}

/// `UTC`, `Europe/Berlin`. Which zones there are, only the host knows.
fn is_zone(word: &str) -> bool {
    let clean = |c: char| c.is_ascii_alphanumeric() || "/_+-".contains(c);
    word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word.chars().all(clean)
        && (word.contains('/') || word.chars().all(|c| c.is_ascii_uppercase()))
        && !is_days(word)
}

fn is_epoch(digits: &str) -> bool {
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// `Mon`, `Mon..Fri`, `Sat,Sun`.
fn is_days(word: &str) -> bool {
    let day = |name: &str| {
        let name = name.to_ascii_lowercase();
        DAYS.iter().any(|day| *day == name || day[..3] == *name)
    };
    word.split(',').all(|part| match part.split_once("..").or_else(|| part.split_once('-')) {
        Some((from, to)) => day(from) && day(to),
        None => day(part),
    })
}

/// `YYYY-MM-DD`, `MM-DD`; `~` in place of the last `-` counts days from the end of the month.
fn is_date(word: &str) -> bool {
    let Some(at) = word.rfind(['-', '~']) else { return false };
    let (before, day) = (&word[..at], &word[at + 1..]);
    let (year, month) = before.split_once('-').map_or((None, before), |(year, month)| (Some(year), month));
    year.is_none_or(is_year) && is_component(month, 1, 12) && is_component(day, 1, 31)
}

/// Two digits are short for a year of this century or the last.
fn is_year(year: &str) -> bool {
    is_component(year, 1970, 2199) || is_component(year, 0, 99)
}

/// `HH:MM`, `HH:MM:SS`, with fractions of seconds.
fn is_time(word: &str) -> bool {
    let parts: Vec<&str> = word.split(':').collect();
    match parts[..] {
        [hour, minute] => is_component(hour, 0, 23) && is_component(minute, 0, 59),
        [hour, minute, second] => {
            is_component(hour, 0, 23) && is_component(minute, 0, 59) && is_component(&whole_seconds(second), 0, 59)
        }
        _ => false,
    }
}

/// Seconds without their fractions: `0.5` is `0`, but the dots of `0..30` stay.
fn whole_seconds(text: &str) -> String {
    let mut whole = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('.') {
        whole.push_str(&rest[..at]);
        rest = match rest[at..].strip_prefix("..") {
            Some(after) => {
                whole.push_str("..");
                after
            }
            None => rest[at + 1..].trim_start_matches(|c: char| c.is_ascii_digit()),
        };
    }
    whole + rest
}

/// `*`, or numbers in a range, as a list of single ones, `a..b`, each with `/step`.
fn is_component(text: &str, least: u32, most: u32) -> bool {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|number| digits && (least..=most).contains(number))
    };
    text.split(',').all(|part| {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let good_step = step.is_none_or(|step| step.parse::<u32>().is_ok_and(|step| step > 0));
        let good_range = match range.split_once("..") {
            Some((from, to)) => number(from).zip(number(to)).is_some_and(|(from, to)| from <= to),
            None => range == "*" || number(range).is_some(),
        };
        good_step && good_range
    })
}
