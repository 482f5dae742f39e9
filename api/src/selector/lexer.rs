//! Splits a label selector into tokens the way upstream's lexer does: symbols greedily, everything else is a word.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word,
    In,
    NotIn,
    Equals,
    DoubleEquals,
    NotEquals,
    Not,
    Greater,
    Less,
    Open,
    Close,
    Comma,
    Unknown,
    End,
}

pub(super) struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// The next token without taking it.
    pub(super) fn peek(&self) -> (Token, &'a str) {
        let (token, text, _) = scan(self.rest);
        (token, text)
    }

    /// Takes the next token.
    pub(super) fn next(&mut self) -> (Token, &'a str) {
        let (token, text, rest) = scan(self.rest);
        self.rest = rest;
        (token, text)
    }
}

const SYMBOLS: [(&str, Token); 9] = [
    ("==", Token::DoubleEquals),
    ("!=", Token::NotEquals),
    ("=", Token::Equals),
    ("!", Token::Not),
    (">", Token::Greater),
    ("<", Token::Less),
    ("(", Token::Open),
    (")", Token::Close),
    (",", Token::Comma),
];

fn scan(text: &str) -> (Token, &str, &str) {
    let text = text.trim_start_matches([' ', '\t', '\r', '\n']);
    if text.is_empty() {
        return (Token::End, "", "");
    }
    for (symbol, token) in SYMBOLS {
        if text.starts_with(symbol) {
            let (symbol, rest) = text.split_at(symbol.len());
            return (token, symbol, rest);
        }
    }
    let end = text.find([' ', '\t', '\r', '\n', '=', '!', '(', ')', ',', '>', '<']).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let token = match word {
        "in" => Token::In,
        "notin" => Token::NotIn,
        "" => Token::Unknown,
        _ => Token::Word,
    };
    (token, word, rest)
}
