//! Changes the text of a password file and keeps every other line as it is.

/// The file after a change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) text: String,
    /// The lines that were changed, replaced or deleted.
    pub(super) lines: usize,
}

/// Gives a user this hash: in its line, or in a new line at the end. Further lines of the user are deleted.
pub(super) fn set(text: &str, user: &str, hash: &str) -> Changed {
    let mut changed = Changed { text: String::new(), lines: 0 };
    for line in text.split_inclusive('\n') {
        if !is_of(line, user) {
            changed.text.push_str(line);
            continue;
        }
        if changed.lines == 0 {
            changed.text.push_str(&entry(user, hash, line));
        }
        changed.lines += 1;
    }
    if changed.lines == 0 {
        if !changed.text.is_empty() && !changed.text.ends_with('\n') {
            changed.text.push('\n');
        }
        changed.text.push_str(&entry(user, hash, "\n"));
    }
    changed
}

/// Deletes a user.
pub(super) fn delete(text: &str, user: &str) -> Changed {
    let mut changed = Changed { text: String::new(), lines: 0 };
    for line in text.split_inclusive('\n') {
        if is_of(line, user) {
            changed.lines += 1;
        } else {
            changed.text.push_str(line);
        }
    }
    changed
}

/// Replaces each password in plain text by its hash.
///
/// # Errors
/// Lines without a name or a password, with their numbers, or the error of `hash`.
pub(super) fn upgrade<E: From<String>>(
    text: &str,
    is_hash: impl Fn(&str) -> bool,
    mut hash: impl FnMut(&str) -> Result<String, E>,
) -> Result<Changed, Vec<E>> {
    let (mut changed, mut errors) = (Changed { text: String::new(), lines: 0 }, Vec::new());
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        if is_comment(line) {
            changed.text.push_str(line);
            continue;
        }
        let pair = line.split_once(':').map(|(user, password)| (trim(user), trim(password)));
        match pair {
            Some((user, password)) if !user.is_empty() && !password.is_empty() => {
                if is_hash(password) {
                    changed.text.push_str(line);
                } else if errors.is_empty() {
                    match hash(password) {
                        Ok(hash) => changed.text.push_str(&entry(user, &hash, line)),
                        Err(error) => errors.push(error),
                    }
                    changed.lines += 1;
                }
            }
            _ => {
                let problem = "it is no NAME:PASSWORD; correct the line, or begin it with #";
                errors.push(E::from(format!("{number}: {problem}")));
            }
        }
    }
    if errors.is_empty() { Ok(changed) } else { Err(errors) }
}

/// Whether a line is that of a user.
fn is_of(line: &str, user: &str) -> bool {
    !is_comment(line) && line.split_once(':').is_some_and(|(name, _)| trim(name) == user)
}

fn is_comment(line: &str) -> bool {
    line.starts_with('#') || trim(line).is_empty()
}

fn trim(text: &str) -> &str {
    text.trim_matches(|letter: char| letter.is_ascii_whitespace())
}

/// A line with the line end of another.
fn entry(user: &str, hash: &str, like: &str) -> String {
    let end = if like.ends_with("\r\n") {
        "\r\n"
    } else if like.ends_with('\n') {
        "\n"
    } else {
        ""
    };
    format!("{user}:{hash}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "# users: of the house\n\nann:old\r\nbob : kept \n#ann:comment\nann:again\neve:x";

    fn hash(password: &str) -> Result<String, String> {
        Ok(format!("<{password}>"))
    }

    fn is_hash(text: &str) -> bool {
        text.starts_with('<')
    }

    #[test]
    fn a_user_keeps_its_place_and_all_else_is_kept() {
        let changed = set(FILE, "ann", "new");
        let expected = "# users: of the house\n\nann:new\r\nbob : kept \n#ann:comment\neve:x";
        assert_eq!((changed.text.as_str(), changed.lines), (expected, 2));
        let changed = set(FILE, "bob", "new");
        assert_eq!(changed.text, FILE.replace("bob : kept ", "bob:new"));
        assert_eq!(set(FILE, "eve", "new").text, FILE.replace("eve:x", "eve:new"));
    }

    #[test]
    fn a_new_user_comes_last_in_a_line_of_its_own() {
        let changed = set(FILE, "carol", "new");
        assert_eq!((changed.text, changed.lines), (format!("{FILE}\ncarol:new\n"), 0));
        assert_eq!(set("", "carol", "new").text, "carol:new\n");
        assert_eq!(set("#\n", "carol", "new").text, "#\ncarol:new\n");
    }

    #[test]
    fn a_user_is_deleted_in_all_its_lines() {
        let changed = delete(FILE, "ann");
        let expected = "# users: of the house\n\nbob : kept \n#ann:comment\neve:x";
        assert_eq!((changed.text.as_str(), changed.lines), (expected, 2));
        assert_eq!(delete(FILE, "old"), Changed { text: FILE.to_owned(), lines: 0 });
        assert_eq!(delete(FILE, "#ann").lines, 0, "a comment is no user");
    }

    #[test]
    fn plain_text_is_hashed_and_hashes_are_kept() {
        let file = "# pw: x\nann: a b:c \r\nbob:<hash>\neve:x";
        let changed = upgrade(file, is_hash, hash).expect("a good file");
        let expected = "# pw: x\nann:<a b:c>\r\nbob:<hash>\neve:<x>";
        assert_eq!((changed.text.as_str(), changed.lines), (expected, 2));
        let again = upgrade(&changed.text, is_hash, hash).expect("a good file");
        assert_eq!((again.text, again.lines), (changed.text, 0));
    }

    #[test]
    fn a_line_that_is_no_user_is_an_error_and_names_no_password() {
        let errors = upgrade("ann:x\nsecret\n:y\nbob:\n", is_hash, hash).expect_err("errors");
        let problem = "it is no NAME:PASSWORD; correct the line, or begin it with #";
        assert_eq!(errors, [2, 3, 4].map(|line| format!("{line}: {problem}")));
    }
}
