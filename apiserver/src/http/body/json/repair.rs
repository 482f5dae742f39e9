//! Text that encoding/json reads and serde_json doesn't: bytes that are no UTF-8, and halves of surrogate pairs. Both become U+FFFD.
//! Entry point: [`repaired`].

/// Of a document that is well-formed but for its strings, one that is well-formed.
pub fn repaired(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    let mut whole = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find('\\') {
        whole.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = escape(rest);
        match (half(rest), half(&rest[length..])) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => {
                whole.push_str(&rest[..2 * length]);
                rest = &rest[2 * length..];
            }
            (Some(_), _) => {
                whole.push(char::REPLACEMENT_CHARACTER);
                rest = &rest[length..];
            }
            (None, _) => {
                whole.push_str(&rest[..length]);
                rest = &rest[length..];
            }
        }
    }
    whole.push_str(rest);
    whole
}

/// How long the escape sequence is that the text begins with.
fn escape(text: &str) -> usize {
    let long = if text.starts_with("\\u") { 6 } else { 2 };
    if text.is_char_boundary(long) { long } else { text.len() }
}

/// The half of a surrogate pair that the text begins with.
fn half(text: &str) -> Option<u16> {
    let code = u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()?;
    (0xd800..0xe000).contains(&code).then_some(code)
}
