//! Options of pods that run on Windows. Entry points: [`options`], [`host_processes`].

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{PodSpec, WindowsSecurityContextOptions};

use super::system;

const MAX_SPEC: usize = 64 * 1024;
const DOMAIN_BELOW: usize = 256;
const MAX_USER: usize = 104;

/// All errors of the options of a pod or a container.
pub fn options(errors: &mut FieldErrors, path: &FieldPath, options: Option<&WindowsSecurityContextOptions>) {
    let Some(options) = options else { return };
    if let Some(name) = &options.gmsa_credential_spec_name {
        errors.push_invalid(&path.child("gmsaCredentialSpecName"), name, names::is_dns1123_subdomain(name));
    }
    if let Some(spec) = &options.gmsa_credential_spec {
        let mut wrong = |detail| errors.push(FieldError::invalid(&path.child("gmsaCredentialSpec"), spec, detail));
        match spec.len() {
            0 => wrong("gmsaCredentialSpec cannot be an empty string"),
            size if size > MAX_SPEC => wrong("gmsaCredentialSpec size must be under 64 KiB"),
            _ => {}
        }
    }
    if let Some(name) = &options.run_as_user_name {
        for detail in user_name(name) {
            errors.push(FieldError::invalid(&path.child("runAsUserName"), name, detail));
        }
    }
}

/// What is wrong with `user` or `DOMAIN\user`.
fn user_name(name: &str) -> Vec<&'static str> {
    if name.is_empty() {
        return vec!["runAsUserName cannot be an empty string"];
    }
    if name.bytes().any(|b| b.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters"];
    }
    let (domain, user) = match name.split('\\').collect::<Vec<_>>().as_slice() {
        [user] => (None, *user),
        [domain, user] => (Some(*domain), *user),
        _ => return vec!["runAsUserName cannot contain more than one backslash"],
    };
    let checks = [
        (
            domain.is_some_and(|domain| domain.len() >= DOMAIN_BELOW),
            "runAsUserName's Domain length must be under 256 characters",
        ),
        (
            domain.is_some_and(|domain| !is_net_bios(domain) && !is_dns(domain)),
            "runAsUserName's Domain doesn't match the NetBios nor the DNS format",
        ),
        (user.is_empty(), "runAsUserName's User cannot be empty"),
        (user.len() > MAX_USER, "runAsUserName's User length must not be longer than 104 characters"),
        (
            !user.is_empty() && user.bytes().all(|b| matches!(b, b'.' | b' ')),
            "runAsUserName's User cannot contain only periods or spaces",
        ),
        (
            user.contains(|c| "\"/\\:;|=,+*?<>@[]".contains(c)),
            "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]",
        ),
    ];
    checks.into_iter().filter(|(wrong, _)| *wrong).map(|(_, detail)| detail).collect()
}

fn is_net_bios(domain: &str) -> bool {
    const MAX: usize = 15;
    let reserved = |c: char| "\\/:*?\"<>|".contains(c);
    (1..=MAX).contains(&domain.chars().count()) && !domain.contains(reserved) && !domain.starts_with('.')
}

fn is_dns(domain: &str) -> bool {
    const MAX: usize = 63;
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let end = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let inner = bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
        label.len() <= MAX && end(bytes.first()) && end(bytes.last()) && inner
    };
    domain.split('.').all(label)
}

/// Containers that are processes of the host: all or none, and on the host's network.
pub fn host_processes(errors: &mut FieldErrors, path: &FieldPath, spec: &PodSpec) {
    let of_options = |options: Option<&WindowsSecurityContextOptions>| options.and_then(|options| options.host_process);
    let of_pod = of_options(spec.security_context.as_ref().and_then(|context| context.windows_options.as_ref()));
    let (mut all, mut on_host) = (0, 0);
    for (path, context) in system::containers(path, spec) {
        let own = of_options(context.and_then(|context| context.windows_options.as_ref()));
        if let (Some(pod), Some(own)) = (of_pod, own)
            && pod != own
        {
            let detail = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            errors.push(FieldError::invalid(&path.child("windowsOptions").child("hostProcess"), own, detail));
        }
        all += 1;
        on_host += i32::from(own.or(of_pod) == Some(true));
    }
    if on_host > 0 && on_host != all {
        let detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(FieldError::invalid(path, "", detail));
    }
    if on_host > 0 && spec.host_network != Some(true) {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(FieldError::invalid(&path.child("hostNetwork"), false, detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn user_names() {
        let table: [(&str, &[&str]); 7] = [
            ("ContainerUser", &[]),
            ("dom\\user", &[]),
            ("", &["runAsUserName cannot be an empty string"]),
            ("a\u{7}", &["runAsUserName cannot contain control characters"]),
            ("a\\b\\c", &["runAsUserName cannot contain more than one backslash"]),
            (
                "a?b\\",
                &[
                    "runAsUserName's Domain doesn't match the NetBios nor the DNS format",
                    "runAsUserName's User cannot be empty",
                ],
            ),
            ("..", &["runAsUserName's User cannot contain only periods or spaces"]),
        ];
        for (name, expected) in table {
            assert_eq!(user_name(name), expected, "{name:?}");
        }
    }

    #[test]
    fn processes_of_the_host() {
        let container =
            |host: Option<bool>| json!({"name": "c", "securityContext": {"windowsOptions": {"hostProcess": host}}});
        let spec: PodSpec = serde_json::from_value(json!({
            "securityContext": {"windowsOptions": {"hostProcess": true}}, "containers": [container(None), container(Some(false))]}))
        .expect("a spec");
        let mut errors = FieldErrors::new();
        host_processes(&mut errors, &FieldPath::root("spec"), &spec);
        assert_eq!(
            errors.to_string(),
            "[spec.containers[1].securityContext.windowsOptions.hostProcess: Invalid value: false: pod hostProcess value must be identical if both are specified, was true, spec: Invalid value: \"\": If pod contains any hostProcess containers then all containers must be HostProcess containers, spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers]"
        );
    }
}
