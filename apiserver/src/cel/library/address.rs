//! Addresses and networks: <https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-ip-address-library>.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::opaque::Opaque;
use super::{Answer, failed};
use crate::cel::value::Value;

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Answer<'a> {
    match args {
        [Value::String(text)] => of_text(function, text),
        [Value::Opaque(opaque), rest @ ..] => match (&**opaque, rest) {
            (Opaque::Ip(address), []) => of_address(function, *address),
            (Opaque::Cidr(address, bits), rest) => of_network(function, *address, *bits, rest),
            _ => None,
        },
        _ => None,
    }
}

fn of_text<'a>(function: &str, text: &str) -> Answer<'a> {
    let value = match function {
        "isIP" => Value::Bool(parse_address(text).is_ok()),
        "isCIDR" => Value::Bool(parse_network(text).is_ok()),
        "ip" => match parse_address(text) {
            Ok(address) => Value::Opaque(Arc::new(Opaque::Ip(address))),
            Err(why) => return failed(why),
        },
        "ip.isCanonical" => match parse_address(text) {
            Ok(address) => Value::Bool(address.to_string() == text),
            Err(why) => return failed(why),
        },
        "cidr" => match parse_network(text) {
            Ok((address, bits)) => Value::Opaque(Arc::new(Opaque::Cidr(address, bits))),
            Err(why) => return failed(why),
        },
        _ => return None,
    };
    Some(Ok(value))
}

fn of_address<'a>(function: &str, address: IpAddr) -> Answer<'a> {
    let value = match function {
        "family" => Value::Int(if address.is_ipv4() { 4 } else { 6 }),
        "isUnspecified" => Value::Bool(address.is_unspecified()),
        "isLoopback" => Value::Bool(address.is_loopback()),
        "isLinkLocalMulticast" => Value::Bool(match address {
            IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
            IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
        }),
        "isLinkLocalUnicast" => Value::Bool(link_local(address)),
        "isGlobalUnicast" => {
            let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
            let special = address.is_unspecified() || address.is_loopback() || address.is_multicast();
            Value::Bool(!broadcast && !special && !link_local(address))
        }
        _ => return None,
    };
    Some(Ok(value))
}

fn link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn of_network<'a>(function: &str, address: IpAddr, bits: u8, rest: &[Value<'a>]) -> Answer<'a> {
    let inner = match rest {
        [Value::Opaque(opaque)] => match &**opaque {
            Opaque::Ip(address) if function == "containsIP" => Some((*address, full(*address))),
            Opaque::Cidr(address, bits) if function == "containsCIDR" => Some((*address, *bits)),
            _ => return None,
        },
        [Value::String(text)] if function == "containsIP" => match parse_address(text) {
            Ok(address) => Some((address, full(address))),
            Err(why) => return failed(why),
        },
        [Value::String(text)] if function == "containsCIDR" => match parse_network(text) {
            Ok(network) => Some(network),
            Err(why) => return failed(why),
        },
        [] => None,
        _ => return None,
    };
    let value = match (function, inner) {
        ("containsIP" | "containsCIDR", Some((other, other_bits))) => Value::Bool(
            other.is_ipv4() == address.is_ipv4() && other_bits >= bits && masked(other, bits) == masked(address, bits),
        ),
        ("ip", None) => Value::Opaque(Arc::new(Opaque::Ip(address))),
        ("masked", None) => Value::Opaque(Arc::new(Opaque::Cidr(masked(address, bits), bits))),
        ("prefixLength", None) => Value::Int(i64::from(bits)),
        _ => return None,
    };
    Some(Ok(value))
}

fn full(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

/// As Go's `netip.ParseAddr`, without zones and IPv4 in IPv6; the error is the library's text.
fn parse_address(text: &str) -> Result<IpAddr, String> {
    let read = plain_address(text);
    let address =
        read.map_err(|why| format!("IP Address {text:?} parse error during conversion from string: {why}"))?;
    not_mapped(address, text)
}

fn not_mapped(address: IpAddr, text: &str) -> Result<IpAddr, String> {
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        address => Ok(address),
    }
}

fn plain_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| {
        let why = match text.find(['.', ':', '%']).map(|at| &text[at..=at]) {
            Some(".") => wrong_v4(text),
            Some("%") => "missing IPv6 address".to_owned(),
            _ => "unable to parse IP".to_owned(),
        };
        format!("ParseAddr({text:?}): {why}")
    })
}

/// What Go says of four numbers that are none.
fn wrong_v4(text: &str) -> String {
    let (mut value, mut digits, mut dots) = (0_u32, 0, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'0'..=b'9' if digits == 1 && value == 0 => return "IPv4 field has octet with leading zero".to_owned(),
            b'0'..=b'9' => {
                value = value * 10 + u32::from(byte - b'0');
                digits += 1;
                if value > 255 {
                    return "IPv4 field has value >255".to_owned();
                }
            }
            b'.' if digits == 0 || at == text.len() - 1 => {
                return format!("IPv4 field must have at least one digit (at {:?})", &text[at..]);
            }
            b'.' if dots == 3 => return "IPv4 address too long".to_owned(),
            b'.' => (value, digits, dots) = (0, 0, dots + 1),
            _ => return format!("unexpected character (at {:?})", text.get(at..).unwrap_or_default()),
        }
    }
    "IPv4 address too short".to_owned()
}

/// As Go's `netip.ParsePrefix`; the error is the library's text.
fn parse_network(text: &str) -> Result<(IpAddr, u8), String> {
    let fail = |why: &str| {
        format!("network address parse error during conversion from string: netip.ParsePrefix({text:?}): {why}")
    };
    let (address, bits) = text.rsplit_once('/').ok_or_else(|| fail("no '/'"))?;
    let address = plain_address(address).map_err(|why| fail(&why))?;
    let plain =
        !bits.is_empty() && bits.bytes().all(|digit| digit.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    let length: u32 =
        bits.parse().ok().filter(|_| plain).ok_or_else(|| fail(&format!("bad bits after slash: {bits:?}")))?;
    let fits = u8::try_from(length).ok().filter(|length| *length <= full(address));
    let length = fits.ok_or_else(|| fail("prefix length out of range"))?;
    Ok((not_mapped(address, text)?, length))
}
