//! Topic Names and Topic Filters, by the letter of section 4.7 and 4.8.2.

use crate::topic::{
    ShareName, TopicFilter, TopicName, check_filter, check_name, levels, name_matches,
};

pub(super) fn topic(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (filter, name) = text.split_once('\n').unwrap_or((text, text));
    for text in [filter, name] {
        assert_eq!(check_name(text).is_ok(), is_name(text), "{text:?}");
        assert_eq!(TopicName::new(text).is_ok(), is_name(text));
        assert_eq!(check_filter(text).is_ok(), is_filter(text), "{text:?}");
        let share = !text.is_empty() && is_text(text) && !text.contains(['/', '+', '#']);
        assert_eq!(ShareName::new(text).is_ok(), share, "{text:?}");
        if let Err(error) = check_filter(text) {
            assert!(error.to_string().contains(error.statement()));
        }
    }
    let Ok(filter) = TopicFilter::new(filter) else { return };
    let plain = filter.filter_str();
    match filter.share_name() {
        Some(share) => {
            assert_eq!(filter.as_str(), format!("$share/{share}/{plain}"));
            let (share, plain) = (ShareName::new(share), TopicFilter::new(plain));
            // What is shared may begin with `$share` itself, and is then no filter of its own.
            if let (Ok(share), Ok(plain)) = (share, plain) {
                assert_eq!(TopicFilter::shared(&share, &plain).as_ref(), Ok(&filter));
            }
        }
        None => assert_eq!(filter.as_str(), plain),
    }
    assert_eq!(filter.levels(), plain.split('/').count());
    assert_eq!(filter.has_wildcard(), plain.split('/').any(|level| matches!(level, "+" | "#")));
    if let Ok(itself) = TopicName::new(plain) {
        assert!(filter.matches(&itself), "a filter without wildcard matches its own text");
    }
    let Ok(name) = TopicName::new(name) else { return };
    assert_eq!(name.levels(), levels(name.as_str()));
    assert_eq!(filter.matches(&name), matches(plain, name.as_str()), "{filter:?} {name:?}");
    assert_eq!(name_matches(plain, name.as_str()), filter.matches(&name));
}

fn is_text(text: &str) -> bool {
    (1..=65_535).contains(&text.len()) && !text.contains('\0')
}

/// MQTT-4.7.0-1, -4.7.3-1 to -3.
fn is_name(text: &str) -> bool {
    is_text(text) && !text.contains(['+', '#'])
}

/// MQTT-4.7.1-1, -2, -4.8.2-1, -2.
fn is_filter(text: &str) -> bool {
    let filter = match text.strip_prefix("$share/") {
        None => text,
        Some(shared) => match shared.split_once('/') {
            Some((share, filter)) if !share.is_empty() && !share.contains(['+', '#']) => filter,
            _ => return false,
        },
    };
    let all: Vec<&str> = filter.split('/').collect();
    is_text(text)
        && !filter.is_empty()
        && all.iter().enumerate().all(|(index, level)| match *level {
            "+" => true,
            "#" => index + 1 == all.len(),
            level => !level.contains(['+', '#']),
        })
}

/// Section 4.7, level by level.
pub(crate) fn matches(filter: &str, name: &str) -> bool {
    let filter: Vec<&str> = filter.split('/').collect();
    let name: Vec<&str> = name.split('/').collect();
    if name[0].starts_with('$') && matches!(filter[0], "+" | "#") {
        return false; // MQTT-4.7.2-1
    }
    let multi = filter.last() == Some(&"#");
    let fixed = &filter[..filter.len() - usize::from(multi)];
    (name.len() == fixed.len() || multi && name.len() > fixed.len())
        && fixed.iter().zip(&name).all(|(level, text)| *level == "+" || level == text)
}
