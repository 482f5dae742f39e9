//! The parameters of operations, and the sets of them that kinds of operations share. Entry points: the constants and [`name_of`].
//!
//! Only what this server understands is listed. The order is that of the names, as upstream's.

use std::borrow::Cow;

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the path.
    Path,
    /// After the question mark.
    Query,
}

/// One parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Where it stands.
    pub place: Place,
    /// `string`, `integer` or `boolean`.
    pub kind: &'static str,
    /// For people.
    pub description: Cow<'static, str>,
    /// Under this key the version 2 document keeps the parameter once; empty where it stands at each operation. `dryRun` and
    /// `fieldValidation` do: kubectl looks for them there and follows no reference.
    pub shared: &'static str,
}

const fn query(name: &'static str, kind: &'static str, shared: &'static str, description: &'static str) -> Parameter {
    Parameter { name, place: Place::Query, kind, description: Cow::Borrowed(description), shared }
}

const fn path(name: &'static str, shared: &'static str, description: &'static str) -> Parameter {
    Parameter { name, place: Place::Path, kind: "string", description: Cow::Borrowed(description), shared }
}

/// `{name}`.
pub fn name_of(kind: &str) -> Parameter {
    let description = Cow::Owned(format!("name of the {kind}"));
    Parameter { name: "name", place: Place::Path, kind: "string", description, shared: "" }
}

/// `{namespace}`.
pub const NAMESPACE: Parameter =
    path("namespace", "namespace", "object name and auth scope, such as for teams and projects");
/// What follows `/proxy/`.
pub const REST: Parameter = path("path", "path-rest", "path to the resource");
/// Of every answer that is an object.
pub const PRETTY: Parameter = query(
    "pretty",
    "string",
    "pretty",
    "If 'true', then the output is pretty printed. Defaults to 'false' unless the user-agent indicates a browser or command-line HTTP tool (curl and wget).",
);
const DRY_RUN: Parameter = query(
    "dryRun",
    "string",
    "",
    "When present, indicates that modifications should not be persisted. An invalid or unrecognized dryRun directive will result in an error response and no further processing of the request. Valid values are: - All: all dry run stages will be processed",
);
const FIELD_MANAGER: Parameter = query(
    "fieldManager",
    "string",
    "fieldManager",
    "fieldManager is a name associated with the actor or entity that is making these changes, at most 128 printable characters.",
);
const FIELD_MANAGER_OF_PATCH: Parameter = query(
    "fieldManager",
    "string",
    "fieldManager-patch",
    "fieldManager is a name associated with the actor or entity that is making these changes, at most 128 printable characters. It is required for apply requests (application/apply-patch) and optional for other patches.",
);
const FIELD_VALIDATION: Parameter = query(
    "fieldValidation",
    "string",
    "",
    "fieldValidation instructs the server on how to handle objects in the request (POST/PUT/PATCH) containing unknown or duplicate fields. Valid values are: - Ignore: unknown fields are silently dropped, and of duplicate fields the last counts. - Warn: the same, with a warning header for each of them. This is the default. - Strict: the request fails with a BadRequest error that names all of them.",
);
const FORCE: Parameter = query(
    "force",
    "boolean",
    "force",
    "Force is going to \"force\" Apply requests. It means user will re-acquire conflicting fields owned by other people. Force flag must be unset for non-apply patch requests.",
);
const ALLOW_BOOKMARKS: Parameter = query(
    "allowWatchBookmarks",
    "boolean",
    "allowWatchBookmarks",
    "allowWatchBookmarks requests watch events with type \"BOOKMARK\". Clients should not assume that they come at any interval. If this is not a watch, this field is ignored.",
);
const CONTINUE: Parameter = query(
    "continue",
    "string",
    "continue",
    "The continue option should be set when retrieving more results from the server: the token of the previous page, with otherwise identical parameters. A token that is too old is answered by a 410 ResourceExpired error, together with a token that goes on from the latest state. This field is not supported when watch is true.",
);
const FIELD_SELECTOR: Parameter = query(
    "fieldSelector",
    "string",
    "fieldSelector",
    "A selector to restrict the list of returned objects by their fields. Defaults to everything.",
);
const LABEL_SELECTOR: Parameter = query(
    "labelSelector",
    "string",
    "labelSelector",
    "A selector to restrict the list of returned objects by their labels. Defaults to everything.",
);
const LIMIT: Parameter = query(
    "limit",
    "integer",
    "limit",
    "limit is a maximum number of responses to return for a list call. If more items exist, the server will set the `continue` field on the list metadata to a value that retrieves the next set of results; all pages show the same state. This field is not supported if watch is true.",
);
const RESOURCE_VERSION: Parameter = query(
    "resourceVersion",
    "string",
    "resourceVersion",
    "resourceVersion sets a constraint on what resource versions a request may be served from. See https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions for details.\n\nDefaults to unset",
);
const RESOURCE_VERSION_MATCH: Parameter = query(
    "resourceVersionMatch",
    "string",
    "resourceVersionMatch",
    "resourceVersionMatch determines how resourceVersion is applied to list calls. It is highly recommended that resourceVersionMatch be set for list calls where resourceVersion is set See https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions for details.\n\nDefaults to unset",
);
const SEND_INITIAL_EVENTS: Parameter = query(
    "sendInitialEvents",
    "boolean",
    "sendInitialEvents",
    "`sendInitialEvents=true` may be set together with `watch=true`. The watch then begins with synthetic events that produce the current state of the collection, followed by a bookmark annotated with `\"k8s.io/initial-events-end\": \"true\"`. It requires `resourceVersionMatch` to be NotOlderThan.",
);
const TIMEOUT: Parameter = query(
    "timeoutSeconds",
    "integer",
    "timeoutSeconds",
    "Timeout for the list/watch call. This limits the duration of the call, regardless of any activity or inactivity.",
);
const WATCH: Parameter = query(
    "watch",
    "boolean",
    "watch",
    "Watch for changes to the described resources and return them as a stream of add, update, and remove notifications. Specify resourceVersion.",
);
const GRACE_PERIOD: Parameter = query(
    "gracePeriodSeconds",
    "integer",
    "gracePeriodSeconds",
    "The duration in seconds before the object should be deleted. Value must be non-negative integer. The value zero indicates delete immediately. If this value is nil, the default grace period for the specified type will be used.",
);
const ORPHAN_DEPENDENTS: Parameter = query(
    "orphanDependents",
    "boolean",
    "orphanDependents",
    "Deprecated: please use the PropagationPolicy, this field will be deprecated in 1.7. Should the dependent objects be orphaned. If true/false, the \"orphan\" finalizer will be added to/removed from the object's finalizers list. Either this field or PropagationPolicy may be set, but not both.",
);
const PROPAGATION: Parameter = query(
    "propagationPolicy",
    "string",
    "propagationPolicy",
    "Whether and how garbage collection will be performed. Either this field or OrphanDependents may be set, but not both. Acceptable values are: 'Orphan' - orphan the dependents; 'Background' - allow the garbage collector to delete the dependents in the background; 'Foreground' - a cascading policy that deletes all dependents in the foreground.",
);

/// POST and PUT.
pub const WRITE: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
/// PATCH.
pub const PATCH: &[Parameter] = &[DRY_RUN, FIELD_MANAGER_OF_PATCH, FIELD_VALIDATION, FORCE];
/// DELETE of an object.
pub const DELETE: &[Parameter] = &[DRY_RUN, GRACE_PERIOD, ORPHAN_DEPENDENTS, PROPAGATION];
/// GET of a collection, and watches.
pub const LIST: &[Parameter] = &[
    ALLOW_BOOKMARKS,
    CONTINUE,
    FIELD_SELECTOR,
    LABEL_SELECTOR,
    LIMIT,
    RESOURCE_VERSION,
    RESOURCE_VERSION_MATCH,
    SEND_INITIAL_EVENTS,
    TIMEOUT,
    WATCH,
];
/// DELETE of a collection.
pub const DELETE_COLLECTION: &[Parameter] = &[
    CONTINUE,
    DRY_RUN,
    FIELD_SELECTOR,
    GRACE_PERIOD,
    LABEL_SELECTOR,
    LIMIT,
    ORPHAN_DEPENDENTS,
    PROPAGATION,
    RESOURCE_VERSION,
    RESOURCE_VERSION_MATCH,
    SEND_INITIAL_EVENTS,
    TIMEOUT,
];
/// `pods/log`.
pub const LOG: &[Parameter] = &[
    query(
        "container",
        "string",
        "container-log",
        "The container for which to stream logs. Defaults to only container if there is one container in the pod.",
    ),
    query("follow", "boolean", "follow", "Follow the log stream of the pod. Defaults to false."),
    query(
        "limitBytes",
        "integer",
        "limitBytes",
        "If set, the number of bytes to read from the server before terminating the log output. This may not display a complete final line of logging, and may return slightly more or slightly less than the specified limit.",
    ),
    query("previous", "boolean", "previous", "Return previous terminated container logs. Defaults to false."),
    query(
        "sinceSeconds",
        "integer",
        "sinceSeconds",
        "A relative time in seconds before the current time from which to show logs. Only one of sinceSeconds or sinceTime may be specified.",
    ),
    query(
        "stream",
        "string",
        "stream",
        "Specify which container log stream to return to the client. Acceptable values are \"All\", \"Stdout\" and \"Stderr\". If not specified, \"All\" is used, and both stdout and stderr are returned interleaved. Note that when \"TailLines\" is specified, \"Stream\" can only be set to nil or \"All\".",
    ),
    query(
        "tailLines",
        "integer",
        "tailLines",
        "If set, the number of lines from the end of the logs to show. If not specified, logs are shown from the creation of the container or sinceSeconds or sinceTime.",
    ),
    query(
        "timestamps",
        "boolean",
        "timestamps",
        "If true, add an RFC3339 or RFC3339Nano timestamp at the beginning of every line of log output. Defaults to false.",
    ),
];
const CONTAINER: Parameter = query(
    "container",
    "string",
    "container-stream",
    "The container to connect to. Defaults to only container if there is only one container in the pod.",
);
const STDERR: Parameter =
    query("stderr", "boolean", "stderr", "Whether the standard error stream is redirected for this call.");
const STDIN: Parameter = query(
    "stdin",
    "boolean",
    "stdin",
    "Whether the standard input stream is redirected for this call. Defaults to false.",
);
const STDOUT: Parameter =
    query("stdout", "boolean", "stdout", "Whether the standard output stream is redirected for this call.");
const TTY: Parameter = query("tty", "boolean", "tty", "Whether a tty is allocated for this call. Defaults to false.");
/// `pods/attach`.
pub const ATTACH: &[Parameter] = &[CONTAINER, STDERR, STDIN, STDOUT, TTY];
/// `pods/exec`.
pub const EXEC: &[Parameter] = &[
    query(
        "command",
        "string",
        "command",
        "Command is the remote command to execute. argv array. Not executed within a shell.",
    ),
    CONTAINER,
    STDERR,
    STDIN,
    STDOUT,
    TTY,
];
/// `pods/portforward`.
pub const PORT_FORWARD: &[Parameter] =
    &[query("ports", "integer", "ports", "List of ports to forward Required when using WebSockets")];
/// `/proxy`.
pub const PROXY: &[Parameter] =
    &[query("path", "string", "path-query", "Path is the URL path to use for the current proxy request.")];

/// Whether two are the same parameter.
pub fn same(a: &Parameter, b: &Parameter) -> bool {
    a.name == b.name
        && a.place == b.place
        && a.shared == b.shared
        && (!a.shared.is_empty() || a.description == b.description)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_names_one_parameter() {
        let sets = [
            WRITE,
            PATCH,
            DELETE,
            LIST,
            DELETE_COLLECTION,
            LOG,
            ATTACH,
            EXEC,
            PORT_FORWARD,
            PROXY,
            &[NAMESPACE, REST, PRETTY],
        ];
        let mut seen = std::collections::BTreeMap::new();
        for parameter in sets.into_iter().flatten().filter(|parameter| !parameter.shared.is_empty()) {
            let known = seen.entry(parameter.shared).or_insert(parameter);
            assert!(*known == parameter, "{} names two parameters", parameter.shared);
        }
        for set in sets.iter().take(10) {
            assert!(set.is_sorted_by_key(|parameter| parameter.name));
        }
    }
}
