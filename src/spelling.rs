//! How far two texts are from each other, to name what was probably meant.

/// Longer texts are far from all others: comparing takes the product of both lengths.
pub(crate) const COMPARED_MAX: usize = 100;

/// How many letters must be put in, taken out or changed to make one of the other; [`usize::MAX`] if one of them has
/// more than [`COMPARED_MAX`] bytes.
pub(crate) fn distance(one: &str, two: &str) -> usize {
    if one.len() > COMPARED_MAX || two.len() > COMPARED_MAX {
        return usize::MAX;
    }
    let two: Vec<char> = two.chars().collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in two.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[two.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (one, two, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("url", "uri", 1),
            ("listners", "listeners", 1),
            (&"x".repeat(101), "x", usize::MAX),
            ("x", &"x".repeat(101), usize::MAX),
        ] {
            assert_eq!(distance(one, two), expected, "{one} {two}");
        }
    }
}
