//! Regular expressions that can't be read, in the words of Go, whose syntax they have. Entry point: [`go_error`].

/// The commonest complaints of Go about an expression, else what is known.
pub fn go_error(pattern: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    let complaint = if text.contains("unclosed character class") {
        format!("missing closing ]: `{}`", pattern.rfind('[').map_or(pattern, |at| &pattern[at..]))
    } else if text.contains("unclosed group") {
        format!("missing closing ): `{pattern}`")
    } else if text.contains("unopened group") {
        format!("unexpected ): `{pattern}`")
    } else if text.contains("repetition operator missing expression") {
        let at = pattern.find(['*', '+', '?']).unwrap_or(0);
        format!("missing argument to repetition operator: `{}`", pattern.get(at..=at).unwrap_or_default())
    } else if text.contains("look-around") {
        match pattern.find("(?<") {
            Some(at) => format!("invalid named capture: `{}`", &pattern[at..]),
            None => format!("invalid or unsupported Perl syntax: `{}`", complained_of(&text, pattern, 3)),
        }
    } else if text.contains("backreferences") || text.contains("unrecognized escape sequence") {
        format!("invalid escape sequence: `{}`", complained_of(&text, pattern, 2))
    } else if text.contains("invalid character class range") {
        format!("invalid character class range: `{}`", complained_of(&text, pattern, 0))
    } else if text.contains("invalid repetition count range") {
        format!("invalid repeat count: `{}`", complained_of(&text, pattern, 0))
    } else if text.contains("incomplete escape sequence") {
        "trailing backslash at end of expression: ``".to_owned()
    } else {
        text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
    };
    format!("error parsing regexp: {complaint}")
}

/// The part of a pattern under the carets of a complaint, at least so many bytes of it.
fn complained_of<'a>(complaint: &str, pattern: &'a str, least: usize) -> &'a str {
    let carets = complaint.lines().find(|line| line.contains('^') && line.trim().chars().all(|mark| mark == '^'));
    let Some(carets) = carets else { return pattern };
    // The pattern stands four columns to the right.
    let start = carets.find('^').unwrap_or(0).saturating_sub(4);
    let length = carets.trim().len().max(least);
    pattern.get(start..(start + length).min(pattern.len())).unwrap_or(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex::Regex;

    #[test]
    fn complaints_are_gos() {
        for (pattern, expected) in [
            ("[", "missing closing ]: `[`"),
            ("a(b", "missing closing ): `a(b`"),
            ("a)", "unexpected ): `a)`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ] {
            let error = Regex::new(pattern).expect_err(pattern);
            assert_eq!(go_error(pattern, &error), format!("error parsing regexp: {expected}"));
        }
    }
}
