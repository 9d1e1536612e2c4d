//! The scheduler's questions about devices, answered by the API's own expressions.
use serde_json::Value;

#[derive(Default)]
pub struct Selectors(api_schema::cel::device::DeviceSelectors);

impl scheduler::DeviceSelectors for Selectors {
    fn matches(&self, expression: &str, driver: &str, device: &Value) -> Result<bool, String> {
        self.0.matches(expression, driver, device)
    }
}
