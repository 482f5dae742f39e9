//! Authentication: the ordered table of ways to find out who asks. The first that recognises the request decides.

/// Who asks: upstream's user.Info.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// For example `system:serviceaccount:default:default`.
    pub name: String,
    /// Set for service accounts.
    pub uid: String,
    /// Always ends with system:authenticated or system:unauthenticated.
    pub groups: Vec<String>,
    /// Further facts, for example the pod a token is bound to.
    pub extra: std::collections::BTreeMap<String, Vec<String>>,
}
