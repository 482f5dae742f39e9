//! Good examples, and some that are not.

/// Bodies in JSON.
pub const JSON: &[&[u8]] = &[
    br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","labels":{"a":"b"},"annotations":{"c":"d"}},"data":{"k":"v"},"binaryData":{"b":"AAECAw=="}}"#,
    br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","generateName":"g-"},"spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":80,"protocol":"TCP"}],"resources":{"limits":{"cpu":"500m","memory":1e9}}}],"tolerations":[{"key":"k","operator":"Exists","tolerationSeconds":5}],"volumes":[{"name":"v","emptyDir":{}}]},"status":{"startTime":"2026-01-01T00:00:00Z"}}"#,
    br#"{"metadata":{"name":"s"},"spec":{"ports":[{"port":80,"targetPort":"http"}],"selector":{"a":"b"}}}"#,
    br#"[1,-2.5e3,"\u00e9\n",null,true,{"a":{"a":1,"a":2}}]"#,
    br#"{"metadata":{"name":"a","managedFields":[{"manager":"m","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:k":{}}}}]}}"#,
];

/// Bodies in YAML.
pub const YAML: &[&[u8]] = &[
    b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  labels: {a: b, c: \"d\"}\ndata:\n  text: |\n    one\n    two\n  folded: >-\n    three\n",
    b"a: &a [1, 2]\nb: *a\nc:\n  <<: {x: 1}\n  y: yes\n  z: 0o17\n  f: 1_000.5e3\n  n: ~\n",
    b"? complex\n: value\n---\nsecond: document\n",
    b"- !!str 1\n- !!int '2'\n- 'it''s'\n- \"\\x41\\u00e9\"\n- - nested\n",
    br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"v"}}"#,
    b"{a: !b, c: !<d> e, %ff: !e%ff f}",
];

/// An object in protobuf: a ConfigMap `a` with an entry, and an envelope without one.
pub const PROTOBUF: &[&[u8]] = &[
    b"k8s\0\n\x0f\n\x02v1\x12\tConfigMap\x12\x0f\n\x05\n\x01a\x1a\0\x12\x06\n\x01k\x12\x01v\x1a\0\"\0",
    b"k8s\0\n\t\n\x02v1\x12\x03Pod\x12\x20\n\x03\n\x01p\x12\x19\x12\x0a\n\x01c\x12\x01i\x1a\0\x2a\0\x1a\x06Always\x20\x1e\x68\x01\x1a\0",
    b"k8s\0\n\x17\n\x07apps/v1\x12\x0aDeployment\x12\x04\x12\x02\x08\x03",
    b"k8s\0",
];

/// Methods, paths and queries.
pub const PATHS: &[&[u8]] = &[
    b"GET /api/v1/namespaces/default/pods?labelSelector=a%3Db&fieldSelector=spec.nodeName%3Dn&limit=5",
    b"GET /api/v1/watch/namespaces/default/configmaps/a?timeoutSeconds=1",
    b"GET /apis/apps/v1/deployments?continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NSwic3RhcnQiOiJhXHUwMDAwIn0&resourceVersionMatch=Exact",
    b"PUT /api/v1/namespaces/default/finalize?dryRun=All&fieldManager=m&fieldValidation=Strict",
    b"DELETE /api/v1/namespaces/default/pods/p?gracePeriodSeconds=0&propagationPolicy=Orphan",
    b"GET /api/v1/namespaces/default/services/https:s:80/proxy/a/b?c=d",
    b"GET /openapi/v3/apis/apps/v1?hash=ABC&timeout=5s",
    b"GET /readyz/ping?verbose&exclude=a",
    b"GET /apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/exempt",
];

/// Label selectors.
pub const LABELS: &[&[u8]] =
    &[b"a=b,c!=d,!e,f", b"x in (a,b,c),y notin (d)", b"example.org/name==v", b"a in (),b>1,c<2", b" a = b , c "];

/// Field selectors.
pub const FIELDS: &[&[u8]] =
    &[b"metadata.name=a,spec.nodeName!=b", b"status.phase==Running", b"a=b\\,c,d=\\=\\\\", b"metadata.namespace="];

/// Quantities.
pub const QUANTITIES: &[&[u8]] =
    &[b"1", b"500m", b"1.5Gi", b"-12e6", b"1E-3", b"0.000000001", b"9223372036854775807", b"+.5k", b"1n"];

/// Patches: the kind in the first byte, then the text.
pub const PATCHES: &[&[u8]] = &[
    br#"j[{"op":"add","path":"/data/x","value":"y"},{"op":"test","path":"/data/k","value":"v"},{"op":"copy","from":"/data","path":"/metadata/labels"}]"#,
    br#"j[{"op":"move","from":"/data/k","path":"/data/l"},{"op":"remove","path":"/data/~1~0"},{"op":"replace","path":"/metadata/name","value":null}]"#,
    br#"m{"data":{"k":null,"n":"v"},"metadata":{"annotations":{"a":"b"},"resourceVersion":"1"}}"#,
    br#"s{"spec":{"containers":[{"name":"c","image":"j","env":[{"name":"A","value":"B"}]},{"$patch":"delete","name":"d"}],"$setElementOrder/containers":[{"name":"c"}]}}"#,
    br#"s{"metadata":{"$deleteFromPrimitiveList/finalizers":["a"],"finalizers":["b"]},"spec":{"$retainKeys":["volumes"],"volumes":[{"name":"v","$patch":"replace"}],"tolerations":[{"key":"k","$patch":"merge"}]}}"#,
    b"aapiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  labels: {x: y}\nspec:\n  containers:\n  - name: c\n    image: k\n    ports:\n    - containerPort: 80\n",
];

/// Tokens of pages, of answers and of accounts.
pub const TOKENS: &[&[u8]] = &[
    br#"{"v":"meta.k8s.io/v1","rv":5,"start":"a\u0000"}"#,
    br#"{"v":"meta.k8s.io/v1","rv":-1,"start":"default/kube-root-ca.crt\u0000"}"#,
    br#"{"v":"meta.k8s.io/v2","start":"../x"}"#,
];

/// Headers, a line each.
pub const HEADERS: &[&[u8]] = &[
    b"accept: application/json;as=Table;v=v1;g=meta.k8s.io,application/json;q=0.5, */*\naccept-encoding: gzip;q=1",
    b"sec-websocket-protocol: v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj\nupgrade: websocket\nconnection: Upgrade\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\nsec-websocket-version: 13",
    b"authorization: Bearer eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzL3NlcnZpY2VhY2NvdW50In0.c2ln",
    b"impersonate-user: u\nimpersonate-group: g\nimpersonate-uid: x\nimpersonate-extra-a%2Fb: c",
    b"content-type: application/json; charset=utf-8\nuser-agent: kubectl/v1.32.0 (linux/amd64) kubernetes/abc",
    b"accept: application/vnd.kubernetes.protobuf, application/yaml\nif-none-match: \"ABC\"",
];
