//! Expressions in CEL that choose devices. Entry point: [`problem`].
//!
//! Reference: <https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/>.

use std::sync::LazyLock;

use crate::cel::{self, Declared, Environment, Type};

/// Why an expression is none that chooses devices.
pub fn problem(expression: &str) -> Option<String> {
    match cel::compile(expression, &ENVIRONMENT) {
        Err(why) => Some(format!("compilation failed: {why}")),
        Ok(program) => match program.result() {
            Type::Bool | Type::Dyn => None,
            other => Some(format!("must evaluate to bool or the unknown type, not {other}")),
        },
    }
}

/// One variable: the device, with what its driver tells of it, by domain and name.
static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let by_domain = |value: Type| Type::map(Type::String, Type::map(Type::String, value));
    let device = Declared::known(
        "kubernetes.DRADevice",
        [
            ("driver", Type::String),
            ("attributes", by_domain(Type::Dyn)),
            ("capacity", by_domain(Type::Opaque("kubernetes.Quantity"))),
            ("allowMultipleAllocations", Type::Bool),
        ],
    );
    Environment::new().with("device", device)
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_chooses_devices() {
        let good = [
            "device.driver == 'gpu.example.org'",
            "device.attributes['example.org'].model == 'a' && device.capacity['example.org'].memory.compareTo(quantity('1Gi')) >= 0",
            "device.attributes['example.org'].ready",
        ];
        for expression in good {
            assert_eq!(problem(expression), None, "{expression}");
        }
        let table = [
            ("device.driver", "must evaluate to bool or the unknown type, not string"),
            (
                "device.colour == 'red'",
                "compilation failed: ERROR: <input>:1:7: undefined field 'colour'\n | device.colour == 'red'\n | ......^",
            ),
        ];
        for (expression, expected) in table {
            assert_eq!(problem(expression).as_deref(), Some(expected));
        }
    }
}
