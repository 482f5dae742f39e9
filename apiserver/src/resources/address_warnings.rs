//! What upstream warns of in addresses that it takes. Entry points: [`address`] and [`range`].

use std::net::{IpAddr, Ipv6Addr};

use api::field::{FieldPath, go_quote};

use super::checks;

/// An address of IPv6 that its standard writes otherwise, or that stands for one of IPv4.
pub fn address(path: &FieldPath, text: &str) -> Option<String> {
    let Ok(IpAddr::V6(ip)) = text.parse() else { return None };
    let quoted = go_quote(text);
    if let Some(plain) = ip.to_ipv4_mapped() {
        return Some(non_standard(path, "IP address", text, &plain.to_string()));
    }
    let canonical = ip.to_string();
    (canonical != text).then(|| {
        format!("{path}: IPv6 address {quoted} should be in RFC 5952 canonical format ({})", go_quote(&canonical))
    })
}

/// The same of a range.
pub fn range(path: &FieldPath, text: &str) -> Option<String> {
    let (ip, bits) = checks::parse_cidr(text)?;
    match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) if Ipv6Addr::to_ipv4_mapped(&ip).is_some() => None,
        IpAddr::V6(ip) => {
            let canonical = format!("{ip}/{bits}");
            let quoted = go_quote(text);
            (canonical != text).then(|| {
                format!(
                    "{path}: IPv6 CIDR value {quoted} should be in RFC 5952 canonical format ({})",
                    go_quote(&canonical)
                )
            })
        }
    }
}

fn non_standard(path: &FieldPath, what: &str, text: &str, instead: &str) -> String {
    format!(
        "{path}: non-standard {what} {} will be considered invalid in a future Kubernetes release: use {}",
        go_quote(text),
        go_quote(instead)
    )
}
