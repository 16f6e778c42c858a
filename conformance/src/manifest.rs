//! Every normative statement of both standards, as `spec/` lists them: by identifier, in our own words.
//!
//! Which cases test a statement is not written there: the [register](crate::cases) says it.

/// A standard: which of a case's two lists of statements is about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standard {
    /// OASIS MQTT Version 3.1.1, 141 statements.
    V311,
    /// OASIS MQTT Version 5.0, 251 statements.
    V5,
}

/// Both standards, the older first.
pub const STANDARDS: [Standard; 2] = [Standard::V311, Standard::V5];

/// A normative statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement {
    /// The identifier, as `MQTT-3.1.0-1`.
    pub id: &'static str,
    /// Number and title of the section, as `3.1 CONNECT`.
    pub section: &'static str,
    /// The keywords of the sentence (`MUST`, `MUST NOT`, `SHOULD`, `MAY`), in their order; `-` for none.
    pub level: &'static str,
    /// What it asks, in our own words.
    pub words: &'static str,
    /// Why no case tests it.
    pub declined: Option<&'static str>,
}

/// A case that checks what no statement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beyond {
    /// `chapter::case`
    pub case: &'static str,
    /// Where it is said instead.
    pub why: &'static str,
}

impl Standard {
    /// As in the standard's title.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Standard::V311 => "MQTT 3.1.1",
            Standard::V5 => "MQTT 5.0",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Standard::V311 => include_str!("../spec/mqtt-3.1.1.txt"),
            Standard::V5 => include_str!("../spec/mqtt-5.0.txt"),
        }
    }

    /// Its statements, in the standard's order.
    ///
    /// # Errors
    /// The line of `spec/` that is not of the form `id | keywords | words [| reason]`, or that stands in the
    /// section of another number.
    pub fn statements(self) -> Result<Vec<Statement>, String> {
        let mut section = "";
        let mut statements = Vec::new();
        for line in lines(self.text()) {
            if let Some(title) = line.strip_prefix("## ") {
                section = title;
                continue;
            }
            let statement =
                statement(line, section).ok_or_else(|| format!("no statement: {line}"))?;
            statements.push(statement);
        }
        Ok(statements)
    }

    /// The statements that a case names, without `MQTT-`.
    pub fn cited(self, case: &crate::Case) -> impl Iterator<Item = &'static str> {
        let list = match self {
            Standard::V311 => case.v311,
            Standard::V5 => case.v5,
        };
        list.split_whitespace()
    }
}

/// The cases that check what no statement says.
///
/// # Errors
/// The line of `spec/beyond.txt` that is not of the form `chapter::case | why`.
pub fn beyond() -> Result<Vec<Beyond>, String> {
    lines(include_str!("../spec/beyond.txt"))
        .map(|line| match line.split_once(" | ") {
            Some((case, why)) if !why.is_empty() => Ok(Beyond { case, why }),
            _ => Err(format!("no case with a reason: {line}")),
        })
        .collect()
}

/// All but comments and empty lines.
fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with("# "))
}

fn statement(line: &'static str, section: &'static str) -> Option<Statement> {
    let mut fields = line.split(" | ");
    let (id, level, words) = (fields.next()?, fields.next()?, fields.next()?);
    let declined = fields.next();
    let keyword = |word| matches!(word, "MUST" | "MUST NOT" | "SHOULD" | "MAY");
    let (number, _) = id.strip_prefix("MQTT-")?.rsplit_once('-')?;
    let sound = fields.next().is_none()
        && (level == "-" || level.split(", ").all(keyword))
        && !words.is_empty()
        && declined != Some("")
        && section.split(' ').next()? == number.trim_end_matches(".0");
    sound.then_some(Statement { id, section, level, words, declined })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whole_or_not_at_all() {
        let good = statement("MQTT-3.1.0-1 | MUST | a b c", "3.1 CONNECT").expect("a statement");
        assert_eq!((good.id, good.declined), ("MQTT-3.1.0-1", None));
        let both = statement("MQTT-4.2-1 | MUST, MAY | a b | why", "4.2 X").expect("a statement");
        assert_eq!((both.level, both.declined), ("MUST, MAY", Some("why")));
        for bad in [
            "MQTT-3.1.0-1 | MUST",
            "MQTT-3.1.0-1 | must | a b",
            "MQTT-3.1.0-1 | MUST | a b | ",
            "MQTT-3.1.0-1 | MUST | a b | why | more",
            "MQTT-3.1.2-1 | MUST | a b",
            "3.1.0-1 | MUST | a b",
        ] {
            assert_eq!(statement(bad, "3.1 CONNECT"), None, "{bad}");
        }
    }
}
