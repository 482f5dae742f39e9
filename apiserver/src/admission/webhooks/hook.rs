//! A webhook as its configuration describes it, ready to be asked. Entry point: [`Hooks::current`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::selector::LabelSelector;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhookConfiguration,
};

use super::super::expressions::MatchConditions;
use super::super::matching::CONFIGURATION_GROUP;
use super::review::ReviewVersion;
use crate::resources::webhook_configuration;
use crate::view::View;
use crate::webhook::{ClientConfig, ServiceReference};

/// The limit of a call that none is configured for.
const DEFAULT_TIMEOUT: i32 = 10;

/// See the module.
pub(super) struct Hook {
    /// Tells webhooks of all configurations apart.
    pub(super) uid: String,
    pub(super) configuration: String,
    pub(super) name: String,
    pub(super) client: ClientConfig,
    pub(super) rules: Vec<RuleWithOperations>,
    /// A webhook that can't be asked does not matter.
    pub(super) ignore: bool,
    /// Rules also mean other versions of the same objects.
    pub(super) equivalent: bool,
    pub(super) namespaces: LabelSelector,
    pub(super) objects: LabelSelector,
    /// Dry runs may reach it.
    pub(super) free_of_side_effects: bool,
    pub(super) timeout: Duration,
    /// The first of its versions that we speak.
    pub(super) version: Option<ReviewVersion>,
    /// Expressions that must hold of the request.
    pub(super) conditions: MatchConditions,
    /// To be asked again if others change the object after it.
    pub(super) asked_again: bool,
}

/// Which configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Mutating,
    Validating,
}

impl Which {
    fn plural(self) -> &'static str {
        match self {
            Self::Mutating => "mutatingwebhookconfigurations",
            Self::Validating => "validatingwebhookconfigurations",
        }
    }
}

/// The webhooks of all configurations of a kind, prepared once for each state of these.
pub(super) struct Hooks {
    which: Which,
    known: Mutex<(u64, Arc<Vec<Hook>>)>,
}

impl Hooks {
    pub(super) fn new(which: Which) -> Self {
        Self { which, known: Mutex::default() }
    }

    /// In the order in which they are asked.
    pub(super) fn current(&self, view: &dyn View) -> Arc<Vec<Hook>> {
        let version = view.version(CONFIGURATION_GROUP, self.which.plural());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != version {
            *known = (version, Arc::new(self.read(view)));
        }
        Arc::clone(&known.1)
    }

    fn read(&self, view: &dyn View) -> Vec<Hook> {
        let mut hooks = Vec::new();
        for item in view.list(CONFIGURATION_GROUP, self.which.plural(), "") {
            let (name, webhooks) = match self.which {
                Which::Mutating => match serde_json::from_slice::<MutatingWebhookConfiguration>(&item.bytes) {
                    Ok(found) => (found.metadata.name, found.webhooks.unwrap_or_default()),
                    Err(_) => continue,
                },
                Which::Validating => match serde_json::from_slice::<ValidatingWebhookConfiguration>(&item.bytes) {
                    Ok(found) => {
                        let webhooks = found.webhooks.iter().flatten().map(webhook_configuration::common).collect();
                        (found.metadata.name, webhooks)
                    }
                    Err(_) => continue,
                },
            };
            let name = name.unwrap_or_default();
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            for webhook in webhooks {
                let count = seen.entry(webhook.name.clone()).or_default();
                hooks.extend(Hook::new(&name, *count, webhook));
                *count += 1;
            }
        }
        hooks
    }
}

impl Hook {
    /// None for one whose selectors can't be read, which validation does not let in.
    fn new(configuration: &str, count: usize, webhook: MutatingWebhook) -> Option<Self> {
        let config = &webhook.client_config;
        let service = config.service.as_ref().map(|service| ServiceReference {
            namespace: service.namespace.clone(),
            name: service.name.clone(),
            path: service.path.clone().unwrap_or_default(),
            port: service.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(0),
        });
        let client = ClientConfig {
            url: config.url.clone(),
            service,
            ca_bundle: config.ca_bundle.as_ref().map(|bundle| bundle.0.clone()).unwrap_or_default(),
        };
        let versions = &webhook.admission_review_versions;
        let selector = |selector| LabelSelector::from_meta_option(selector).ok();
        let everything = |given: &Option<_>| given.is_none().then(LabelSelector::everything);
        let seconds = webhook.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT);
        Some(Self {
            uid: format!("{configuration}/{}/{count}", webhook.name),
            configuration: configuration.to_owned(),
            client,
            rules: webhook.rules.unwrap_or_default(),
            ignore: webhook.failure_policy.as_deref() == Some("Ignore"),
            equivalent: webhook.match_policy.as_deref() == Some("Equivalent"),
            namespaces: everything(&webhook.namespace_selector)
                .or_else(|| selector(webhook.namespace_selector.as_ref()))?,
            objects: everything(&webhook.object_selector).or_else(|| selector(webhook.object_selector.as_ref()))?,
            free_of_side_effects: matches!(webhook.side_effects.as_str(), "None" | "NoneOnDryRun"),
            timeout: Duration::from_secs(u64::try_from(seconds).unwrap_or(1).max(1)),
            version: versions.iter().find_map(|version| ReviewVersion::parse(version)),
            conditions: MatchConditions::compile(webhook.match_conditions.as_deref().unwrap_or_default(), false),
            asked_again: webhook.reinvocation_policy.as_deref() == Some("IfNeeded"),
            name: webhook.name,
        })
    }
}
