//! What a server has to do before it is ready, each step by the name that upstream gives the same work. Steps of upstream's that
//! have no work here are not listed.
//!
//! Entry points: [`Steps::done`] where the work is done, [`Steps::checks`]. Invariant: a check fails until its step is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use super::Check;

/// The steps, in the order in which they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// What admission asks can be read.
    Admission,
    /// The cache follows the store.
    Informers,
    /// What is stored of flow control is in force.
    FlowControl,
    /// Definitions of kinds are followed.
    DefinitionInformers,
    /// What became of definitions while no server ran is made up for.
    DefinitionControllers,
    /// The kinds that are defined are served.
    Definitions,
    /// The namespaces that every cluster has exist.
    Namespaces,
    /// RBAC's first roles and bindings exist.
    Roles,
    /// The priority classes that every cluster has exist.
    PriorityClasses,
    /// Flow control's own objects exist.
    FlowControlObjects,
    /// The `kubernetes` Service exists, and this server is behind it.
    KubernetesService,
    /// The range of service addresses is an object.
    ServiceCidr,
    /// What decides about APIServices is followed.
    AggregationInformers,
    /// Of remote APIServices it is said whether they can be reached.
    AggregationStatus,
    /// The kinds that are defined have APIServices.
    Registration,
    /// The groups that are built in have APIServices.
    BuiltInRegistration,
}

const NAMES: [(Step, &str); 16] = [
    (Step::Admission, "poststarthook/start-apiserver-admission-initializer"),
    (Step::Informers, "poststarthook/generic-apiserver-start-informers"),
    (Step::FlowControl, "poststarthook/priority-and-fairness-config-consumer"),
    (Step::DefinitionInformers, "poststarthook/start-apiextensions-informers"),
    (Step::DefinitionControllers, "poststarthook/start-apiextensions-controllers"),
    (Step::Definitions, "poststarthook/crd-informer-synced"),
    (Step::Namespaces, "poststarthook/start-system-namespaces-controller"),
    (Step::Roles, "poststarthook/rbac/bootstrap-roles"),
    (Step::PriorityClasses, "poststarthook/scheduling/bootstrap-system-priority-classes"),
    (Step::FlowControlObjects, "poststarthook/priority-and-fairness-config-producer"),
    (Step::KubernetesService, "poststarthook/bootstrap-controller"),
    (Step::ServiceCidr, "poststarthook/start-kubernetes-service-cidr-controller"),
    (Step::AggregationInformers, "poststarthook/start-kube-aggregator-informers"),
    (Step::AggregationStatus, "poststarthook/apiservice-status-remote-available-controller"),
    (Step::Registration, "poststarthook/kube-apiserver-autoregistration"),
    (Step::BuiltInRegistration, "autoregister-completion"),
];

/// Which steps are done.
#[derive(Debug, Default)]
pub struct Steps {
    done: [AtomicBool; NAMES.len()],
    changed: Notify,
}

impl Steps {
    /// Says that these are done.
    pub fn done(&self, steps: &[Step]) {
        steps.iter().for_each(|step| self.done[*step as usize].store(true, Ordering::Release));
        self.changed.notify_waiters();
    }

    /// Waits until all are done.
    pub async fn finished(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.done.iter().all(|done| done.load(Ordering::Acquire)) {
                return;
            }
            changed.await;
        }
    }

    /// A check for each step.
    pub fn checks(self: &Arc<Self>) -> impl Iterator<Item = Check> + '_ {
        NAMES.iter().map(|(step, name)| {
            let (steps, at) = (Arc::clone(self), *step as usize);
            let look = move || match steps.done[at].load(Ordering::Acquire) {
                true => Ok(()),
                // Upstream's words.
                false => Err("not finished".to_owned()),
            };
            Check { name, live: true, look: Box::new(look) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn a_step_fails_until_it_is_done() {
        let steps = Arc::new(Steps::default());
        let failing =
            || steps.checks().filter(|check| (check.look)().is_err()).map(|check| check.name).collect::<Vec<_>>();
        assert_eq!(failing().len(), NAMES.len());
        for (i, (step, name)) in NAMES.iter().enumerate() {
            assert_eq!(*step as usize, i, "{name}");
            steps.done(&[*step]);
            assert_eq!(failing(), NAMES[i + 1..].iter().map(|(_, name)| *name).collect::<Vec<_>>());
            assert_eq!(steps.finished().now_or_never().is_some(), i + 1 == NAMES.len());
        }
    }
}
