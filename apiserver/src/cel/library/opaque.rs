//! Values of the libraries.

use std::net::IpAddr;

use api::quantity::Quantity;

use super::authorization::{Authorizer, GroupCheck, PathCheck, ResourceCheck, Verdict};
use super::formats::NamedFormat;
use super::url::Url;

/// A value that only its library understands.
#[derive(Clone, Debug)]
pub enum Opaque {
    /// `url(…)`
    Url(Url),
    /// `quantity(…)`
    Quantity(Quantity),
    /// `ip(…)`
    Ip(IpAddr),
    /// `cidr(…)`: address and length of the prefix.
    Cidr(IpAddr, u8),
    /// `semver(…)`
    Semver(semver::Version),
    /// `format.…()`
    Format(NamedFormat),
    /// `authorizer`
    Authorizer(Authorizer),
    /// `authorizer.path(…)`
    PathCheck(PathCheck),
    /// `authorizer.group(…)`
    GroupCheck(GroupCheck),
    /// `authorizer.group(…).resource(…)`
    ResourceCheck(ResourceCheck),
    /// `….check(…)`
    Decision(Verdict),
}

impl Opaque {
    /// The name of the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Url(_) => "kubernetes.URL",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Authorizer(_) => "kubernetes.authorization.Authorizer",
            Self::PathCheck(_) => "kubernetes.authorization.PathCheck",
            Self::GroupCheck(_) => "kubernetes.authorization.GroupCheck",
            Self::ResourceCheck(_) => "kubernetes.authorization.ResourceCheck",
            Self::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    /// Equality of two values of one library.
    pub fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Url(one), Self::Url(two)) => one == two,
            (Self::Quantity(one), Self::Quantity(two)) => one == two,
            (Self::Ip(one), Self::Ip(two)) => one == two,
            (Self::Cidr(one, bits), Self::Cidr(two, other)) => one == two && bits == other,
            (Self::Semver(one), Self::Semver(two)) => one.cmp_precedence(two).is_eq(),
            (Self::Format(one), Self::Format(two)) => one == two,
            (Self::Decision(one), Self::Decision(two)) => one == two,
            _ => false,
        }
    }
}
