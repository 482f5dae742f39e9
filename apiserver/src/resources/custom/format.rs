//! The formats of strings that a schema may ask for. Entry point: [`Format::of`].
//!
//! A format that is not known is no restriction, as upstream: <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation>.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use api::names::{is_dns1123_label, is_dns1123_subdomain};
use jiff::civil::Date;
use regex::Regex;

const HOSTNAME_MAX: usize = 255;

/// A known format.
#[derive(Clone, Copy, Debug)]
pub struct Format(fn(&str) -> bool);

impl Format {
    /// The format of this name, dashes left out.
    pub fn of(name: &str) -> Option<Self> {
        Some(Self(match name.replace('-', "").as_str() {
            "bsonobjectid" => |text| text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
            "uri" => is_uri,
            "email" => is_email,
            "hostname" => is_hostname,
            "ipv4" => |text| text.parse::<Ipv4Addr>().is_ok(),
            "ipv6" => |text| text.parse::<Ipv6Addr>().is_ok(),
            "cidr" => is_cidr,
            "mac" => is_mac,
            "uuid" => {
                |text| matches(text, "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$", &UUID)
            }
            "uuid3" => |text| is_uuid(text, '3'),
            "uuid4" => |text| is_uuid(text, '4') && has_variant(text),
            "uuid5" => |text| is_uuid(text, '5') && has_variant(text),
            "isbn" => |text| is_isbn10(text) || is_isbn13(text),
            "isbn10" => is_isbn10,
            "isbn13" => is_isbn13,
            "creditcard" => is_credit_card,
            "ssn" => |text| matches(text, r"^\d{3}[- ]?\d{2}[- ]?\d{4}$", &SSN),
            "hexcolor" => |text| matches(text, "^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$", &HEX_COLOR),
            "rgbcolor" => |text| matches(text, RGB, &RGB_COLOR),
            "byte" => |text| matches(text, BASE64, &BYTE),
            "password" => |_| true,
            "date" => |text| text.len() == 10 && text.parse::<Date>().is_ok(),
            "duration" => is_duration,
            "datetime" => is_date_time,
            "k8sshortname" => |text| is_dns1123_label(text).is_empty(),
            "k8slongname" => |text| is_dns1123_subdomain(text).is_empty(),
            _ => return None,
        }))
    }

    /// Whether a string has the format.
    pub fn holds(self, text: &str) -> bool {
        (self.0)(text)
    }
}

static UUID: OnceLock<Option<Regex>> = OnceLock::new();
static SSN: OnceLock<Option<Regex>> = OnceLock::new();
static HEX_COLOR: OnceLock<Option<Regex>> = OnceLock::new();
static RGB_COLOR: OnceLock<Option<Regex>> = OnceLock::new();
static BYTE: OnceLock<Option<Regex>> = OnceLock::new();
static HOSTNAME: OnceLock<Option<Regex>> = OnceLock::new();
static DURATION: OnceLock<Option<Regex>> = OnceLock::new();
static TIME: OnceLock<Option<Regex>> = OnceLock::new();
static CARD: OnceLock<Option<Regex>> = OnceLock::new();

const RGB: &str = r"^rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)$";
const BASE64: &str =
    "^(?:[A-Za-z0-9+\\\\/]{4})*(?:[A-Za-z0-9+\\\\/]{2}==|[A-Za-z0-9+\\\\/]{3}=|[A-Za-z0-9+\\\\/]{4})?$";
const NAME: &str = r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$";
const LENGTHS: &str = r"^(\d+\s*(ns|nanoseconds?|us|µs|μs|microseconds?|ms|milliseconds?|s|seconds?|m|minutes?|h|hours?|d|days?|w|weeks?)\s*)+$";
const CARDS: &str = r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})$";

fn matches(text: &str, pattern: &str, kept: &OnceLock<Option<Regex>>) -> bool {
    kept.get_or_init(|| Regex::new(pattern).ok()).as_ref().is_some_and(|regex| regex.is_match(text))
}

/// What Go's `url.ParseRequestURI` takes: an absolute path, or anything behind a scheme.
fn is_uri(text: &str) -> bool {
    let clean = !text.bytes().any(|b| b.is_ascii_control() || b == b' ');
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    let named = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    clean && (text.starts_with('/') || named || text == "*")
}

fn is_email(text: &str) -> bool {
    let address = match text.trim().strip_suffix('>') {
        Some(named) => named.rsplit_once('<').map_or("", |(_, address)| address),
        None => text.trim(),
    };
    let atom =
        |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || "()<>[]:;@\\,\"".contains(c));
    let dotted = |part: &str| part.split('.').all(atom);
    address.rsplit_once('@').is_some_and(|(local, domain)| dotted(local) && dotted(domain))
}

fn is_hostname(text: &str) -> bool {
    matches(text, NAME, &HOSTNAME) && text.len() <= HOSTNAME_MAX && text.split('.').all(|label| label.len() <= 63)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    match (address.parse::<IpAddr>(), bits.parse::<u8>()) {
        (Ok(IpAddr::V4(_)), Ok(bits)) => digits && bits <= 32,
        (Ok(IpAddr::V6(_)), Ok(bits)) => digits && bits <= 128,
        _ => false,
    }
}

/// 6, 8 or 20 bytes, as `01:23:…`, `01-23-…` or `0123.4567…`.
fn is_mac(text: &str) -> bool {
    let groups = |separator: char, digits: usize| {
        let groups: Vec<&str> = text.split(separator).collect();
        let fits = groups.iter().all(|group| group.len() == digits && group.bytes().all(|b| b.is_ascii_hexdigit()));
        fits && matches!(groups.len() * digits / 2, 6 | 8 | 20)
    };
    groups(':', 2) || groups('-', 2) || groups('.', 4)
}

fn is_uuid(text: &str, version: char) -> bool {
    let digits: Vec<char> = text.chars().filter(|c| *c != '-').collect();
    Format::of("uuid").is_some_and(|format| format.holds(text)) && digits.get(12) == Some(&version)
}

fn has_variant(text: &str) -> bool {
    text.chars().filter(|c| *c != '-').nth(16).is_some_and(|c| "89abAB".contains(c))
}

fn digits_of(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect()
}

fn is_isbn10(text: &str) -> bool {
    let digits = digits_of(text);
    let value = |(i, c): (usize, char)| match c {
        'X' if i == 9 => Some(10),
        c => c.to_digit(10),
    };
    let values: Option<Vec<u32>> = digits.chars().enumerate().map(value).collect();
    values.is_some_and(|values| {
        values.len() == 10 && values.iter().zip(1..).map(|(value, weight)| value * weight).sum::<u32>() % 11 == 0
    })
}

fn is_isbn13(text: &str) -> bool {
    let values: Option<Vec<u32>> = digits_of(text).chars().map(|c| c.to_digit(10)).collect();
    values.is_some_and(|values| {
        let sum: u32 = values.iter().enumerate().map(|(i, value)| if i % 2 == 0 { *value } else { value * 3 }).sum();
        values.len() == 13 && sum.is_multiple_of(10)
    })
}

fn is_credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let doubled = |(i, c): (usize, char)| match (i % 2, c.to_digit(10).unwrap_or(0) * 2) {
        (0, twice) => twice / 2,
        (_, twice) if twice > 9 => twice - 9,
        (_, twice) => twice,
    };
    matches(&digits, CARDS, &CARD) && digits.chars().rev().enumerate().map(doubled).sum::<u32>().is_multiple_of(10)
}

/// A duration of Go, or numbers with written-out units.
fn is_duration(text: &str) -> bool {
    let plain = text.strip_prefix(['-', '+']).unwrap_or(text);
    plain == "0" || is_go_duration(plain) || matches(&plain.to_lowercase(), LENGTHS, &DURATION)
}

fn is_go_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (digits, after) = rest.split_at(number);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let well = digits.bytes().any(|b| b.is_ascii_digit()) && digits.matches('.').count() <= 1;
        if !well || !["ns", "us", "µs", "μs", "ms", "s", "m", "h"].contains(&&after[..unit]) {
            return false;
        }
        rest = &after[unit..];
    }
    !text.is_empty()
}

fn is_date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let Some((date, time)) = lower.split_once('t') else { return false };
    let well =
        |time: &str| matches(time, r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$", &TIME);
    let within =
        |at: usize, most: u32| time.get(at..at + 2).and_then(|part| part.parse().ok()).is_some_and(|n: u32| n <= most);
    date.len() == 10 && date.parse::<Date>().is_ok() && well(time) && within(0, 23) && within(3, 59) && within(6, 59)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_take_and_refuse() {
        let table: [(&str, &[&str], &[&str]); 20] = [
            (
                "date-time",
                &["2026-01-02T03:04:05Z", "2026-01-02t03:04:05.5+01:00"],
                &["2026-01-02", "2026-13-02T03:04:05Z", "2026-01-02T25:04:05Z"],
            ),
            ("date", &["2026-01-02"], &["2026-1-2", "x"]),
            ("duration", &["1h30m", "1.5s", "3 days", "2w"], &["1x", "", "h"]),
            ("ipv4", &["1.2.3.4"], &["1.2.3", "::1"]),
            ("ipv6", &["::1"], &["1.2.3.4"]),
            ("cidr", &["10.0.0.0/8", "fd00::/8"], &["10.0.0.0", "10.0.0.0/33"]),
            ("mac", &["01:23:45:67:89:ab", "0123.4567.89ab"], &["01:23:45:67:89", "zz:23:45:67:89:ab"]),
            ("uuid", &["123e4567-e89b-12d3-a456-426614174000"], &["123"]),
            ("uuid4", &["123e4567-e89b-42d3-a456-426614174000"], &["123e4567-e89b-12d3-a456-426614174000"]),
            ("email", &["a@b.c", "A <a@b.c>"], &["a", "a@", "a b@c"]),
            ("hostname", &["a.example.org", "a"], &["-a", "a..b"]),
            ("uri", &["https://a/b", "/b", "a:b"], &["b", "https://a b"]),
            ("byte", &["aGk=", ""], &["aGk", "*"]),
            ("hexcolor", &["#fff", "a0b1c2"], &["#ff", "red"]),
            ("rgbcolor", &["rgb(1,2, 255)"], &["rgb(1,2,256)"]),
            ("isbn10", &["3836221195"], &["3836221196"]),
            ("isbn13", &["978-3-8362-2119-1"], &["978-3-8362-2119-2"]),
            ("creditcard", &["4111 1111 1111 1111"], &["4111 1111 1111 1112"]),
            ("k8s-short-name", &["a-b"], &["a.b", "A"]),
            ("password", &["x"], &[]),
        ];
        for (name, good, bad) in table {
            let format = Format::of(name).unwrap();
            good.iter().for_each(|text| assert!(format.holds(text), "{name} {text}"));
            bad.iter().for_each(|text| assert!(!format.holds(text), "{name} {text}"));
        }
        assert!(Format::of("int32").is_none());
    }
}
