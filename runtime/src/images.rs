//! Images.

/// Key in `Image.spec.annotations` that says where an image came from: `file`, `registry` or `builtin`.
pub const SOURCE: &str = "kubelab.io/source";
