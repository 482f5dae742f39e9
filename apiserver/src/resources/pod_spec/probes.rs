//! Probes and lifecycle hooks of containers.

use api::field::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, Probe, SleepAction, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::resources::checks;

/// All errors of the hooks and probes of a container.
pub fn validate(errors: &mut FieldErrors, path: &FieldPath, container: &Container, grace: i64) {
    if let Some(lifecycle) = &container.lifecycle {
        let path = path.child("lifecycle");
        let hooks = [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)];
        for (name, hook) in hooks {
            if let Some(hook) = hook {
                Handlers::of_hook(hook).validate(errors, &path.child(name), grace);
            }
        }
    }
    if let Some(probe) = &container.liveness_probe {
        let path = path.child("livenessProbe");
        validate_probe(errors, &path, probe, grace);
        succeeds_once(errors, &path, probe);
    }
    if let Some(probe) = &container.readiness_probe {
        let path = path.child("readinessProbe");
        validate_probe(errors, &path, probe, grace);
        if let Some(seconds) = probe.termination_grace_period_seconds {
            let detail = "must not be set for readinessProbes";
            errors.push(FieldError::invalid(&path.child("terminationGracePeriodSeconds"), seconds, detail));
        }
    }
    if let Some(probe) = &container.startup_probe {
        let path = path.child("startupProbe");
        validate_probe(errors, &path, probe, grace);
        succeeds_once(errors, &path, probe);
    }
}

fn succeeds_once(errors: &mut FieldErrors, path: &FieldPath, probe: &Probe) {
    if let Some(threshold) = probe.success_threshold.filter(|threshold| *threshold != 1) {
        errors.push(FieldError::invalid(&path.child("successThreshold"), threshold, "must be 1"));
    }
}

fn validate_probe(errors: &mut FieldErrors, path: &FieldPath, probe: &Probe, grace: i64) {
    Handlers::of_probe(probe).validate(errors, path, grace);
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (name, number) in numbers {
        checks::non_negative_option(errors, &path.child(name), number);
    }
    if let Some(seconds) = probe.termination_grace_period_seconds.filter(|seconds| *seconds <= 0) {
        errors.push(FieldError::invalid(&path.child("terminationGracePeriodSeconds"), seconds, checks::POSITIVE));
    }
}

struct Handlers<'a> {
    exec: Option<&'a ExecAction>,
    http: Option<&'a HTTPGetAction>,
    tcp: Option<&'a TCPSocketAction>,
    grpc: Option<&'a GRPCAction>,
    sleep: Option<&'a SleepAction>,
}

impl<'a> Handlers<'a> {
    fn of_probe(probe: &'a Probe) -> Self {
        let Probe { exec, http_get, tcp_socket, grpc, .. } = probe;
        Self {
            exec: exec.as_ref(),
            http: http_get.as_ref(),
            tcp: tcp_socket.as_ref(),
            grpc: grpc.as_ref(),
            sleep: None,
        }
    }

    fn of_hook(hook: &'a LifecycleHandler) -> Self {
        let LifecycleHandler { exec, http_get, tcp_socket, sleep } = hook;
        Self {
            exec: exec.as_ref(),
            http: http_get.as_ref(),
            tcp: tcp_socket.as_ref(),
            grpc: None,
            sleep: sleep.as_ref(),
        }
    }

    /// The first handler is checked, each further one refused.
    fn validate(&self, errors: &mut FieldErrors, path: &FieldPath, grace: i64) {
        let mut seen = false;
        let mut is_first = |errors: &mut FieldErrors, name: &str| {
            if seen {
                errors.push(FieldError::forbidden(&path.child(name), "may not specify more than 1 handler type"));
            }
            !std::mem::replace(&mut seen, true)
        };
        if let Some(exec) = self.exec
            && is_first(errors, "exec")
            && exec.command.as_ref().is_none_or(Vec::is_empty)
        {
            errors.push(FieldError::required(&path.child("exec").child("command"), ""));
        }
        if let Some(http) = self.http
            && is_first(errors, "httpGet")
        {
            http_get(errors, &path.child("httpGet"), http);
        }
        if let Some(tcp) = self.tcp
            && is_first(errors, "tcpSocket")
        {
            checks::port(errors, &path.child("tcpSocket").child("port"), &tcp.port);
        }
        if let Some(grpc) = self.grpc
            && is_first(errors, "grpc")
        {
            checks::port(errors, &path.child("grpc").child("port"), &IntOrString::Int(grpc.port));
        }
        if let Some(sleep) = self.sleep
            && is_first(errors, "sleep")
            && !(0..=grace).contains(&sleep.seconds)
        {
            let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
            errors.push(FieldError::invalid(&path.child("sleep"), sleep.seconds, detail));
        }
        if !seen {
            errors.push(FieldError::required(path, "must specify a handler type"));
        }
    }
}

fn http_get(errors: &mut FieldErrors, path: &FieldPath, http: &HTTPGetAction) {
    checks::required(errors, &path.child("path"), http.path.as_deref().unwrap_or_default());
    checks::port(errors, &path.child("port"), &http.port);
    checks::one_of(errors, &path.child("scheme"), http.scheme.as_deref().unwrap_or_default(), &["HTTP", "HTTPS"]);
    for header in http.http_headers.iter().flatten() {
        let token = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if header.name.is_empty() || !header.name.bytes().all(token) {
            let detail = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
            errors.push(FieldError::invalid(&path.child("httpHeaders"), &header.name, detail));
        }
    }
}
