//! Which ranges addresses come from now: those of every ServiceCIDR that is ready and stays. Pure.
//!
//! Reference: KEP-1880.

use std::net::IpAddr;

use serde_json::Value;

use super::slots::Cidr;

/// See the module.
pub struct Ranges(Vec<Cidr>);

impl Ranges {
    /// Those of these objects, of the family of the server's own range; that one alone while there is no object at all.
    pub fn of(objects: &[Value], own: Cidr) -> Self {
        if objects.is_empty() {
            return Self(vec![own]);
        }
        let cidrs = objects.iter().filter(|object| is_ready(object)).flat_map(|object| list(&object["spec"]["cidrs"]));
        let ranges = cidrs.filter_map(|cidr| cidr.as_str()?.parse::<Cidr>().ok());
        let mut ranges: Vec<Cidr> = ranges.filter(|range| range.family() == own.family()).collect();
        // Oddity of upstream's: it takes any. This way addresses stay where they always were while there are some.
        ranges.sort_by_key(|range| *range != own);
        Self(ranges)
    }

    /// Where to look for a free address, in this order.
    pub fn iter(&self) -> impl Iterator<Item = Cidr> {
        self.0.iter().copied()
    }

    /// Whether the address can be given to a Service; else what upstream says.
    pub fn check(&self, address: IpAddr) -> Result<(), String> {
        match self.iter().any(|range| range.gives(address)) {
            true => Ok(()),
            false => Err("the provided network does not match the current range".to_owned()),
        }
    }

    /// The same for a dry run. Oddity of upstream's: it is told otherwise, and who has the address is not asked.
    pub fn check_dry(&self, address: IpAddr) -> Result<(), String> {
        let Some(first) = self.iter().next() else { return Err(NOT_READY.to_owned()) };
        self.check(address).map_err(|_| {
            format!("the provided IP ({address}) is not in the valid range. The range of valid IPs is {first}")
        })
    }

    /// What a dry run gets that asks for any address. Oddity of upstream's: one that nobody can have.
    pub fn any_dry(&self) -> Result<IpAddr, &'static str> {
        self.iter().next().map(|range| range.network()).ok_or(NOT_READY)
    }
}

const NOT_READY: &str = "allocator not ready";

/// A range without a condition is ready, so that no controller is needed.
fn is_ready(object: &Value) -> bool {
    let ready = list(&object["status"]["conditions"]).find(|condition| condition["type"] == "Ready");
    object["metadata"]["deletionTimestamp"].is_null() && ready.is_none_or(|condition| condition["status"] == "True")
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn range(cidrs: &[&str], status: Value) -> Value {
        let conditions = if status.is_null() { json!([]) } else { json!([{"type": "Ready", "status": status}]) };
        json!({"metadata": {}, "spec": {"cidrs": cidrs}, "status": {"conditions": conditions}})
    }

    #[test]
    fn ranges_that_are_ready_and_stay_give_addresses() {
        let own: Cidr = "10.96.0.0/16".parse().unwrap();
        let shown = |objects: &[Value]| Ranges::of(objects, own).iter().map(|r| r.to_string()).collect::<Vec<_>>();
        assert_eq!(shown(&[]), ["10.96.0.0/16"]);
        let mut going = range(&["10.5.0.0/24"], json!("True"));
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let all = [
            range(&["10.1.0.0/24", "fd00::/112"], Value::Null),
            range(&["10.2.0.0/24"], json!("False")),
            range(&["10.96.0.0/16"], json!("True")),
            range(&["10.3.0.0/32"], json!("True")),
            going,
        ];
        assert_eq!(shown(&all), ["10.96.0.0/16", "10.1.0.0/24"]);
        let ranges = Ranges::of(&all, own);
        assert!(ranges.check("10.1.0.9".parse().unwrap()).is_ok());
        assert!(ranges.check("10.2.0.9".parse().unwrap()).is_err());
        let dry = ranges.check_dry("10.96.255.255".parse().unwrap()).unwrap_err();
        assert_eq!(
            dry,
            "the provided IP (10.96.255.255) is not in the valid range. The range of valid IPs is 10.96.0.0/16"
        );
        assert_eq!(ranges.any_dry(), Ok("10.96.0.0".parse().unwrap()));
        assert_eq!(Ranges::of(&all[1..2], own).any_dry(), Err("allocator not ready"));
    }
}
