//! Settings of a function that are compared and set alike: one row each.

use crate::manifest::Settings;
use serde_json::{Map, Value, json};

/// A member of the configuration that can be compared and set alike.
pub struct Field {
    /// In Lambda's JSON.
    pub member: &'static str,
    /// The one member within it that matters, if it is an object.
    inner: Option<&'static str>,
    /// For people.
    label: &'static str,
    /// For people.
    unit: &'static str,
    /// What it shall be.
    pub value: Value,
    /// What it is when the member is absent.
    absent: Value,
}

impl Field {
    /// What it is now.
    pub fn old(&self, configuration: &Value) -> Value {
        let member = &configuration[self.member];
        let value = match (self.inner, self.member) {
            (Some(inner), _) => member[inner].clone(),
            // Layers are set as ARNs and given back as objects.
            (None, "Layers") => member.as_array().into_iter().flatten().map(|l| l["Arn"].clone()).collect(),
            (None, _) => member.clone(),
        };
        if value.is_null() { self.absent.clone() } else { value }
    }

    /// Adds what sets it to what is sent. Some members hold more than one setting.
    pub fn put(&self, body: &mut Map<String, Value>) {
        let Some(inner) = self.inner else {
            body.insert(self.member.to_owned(), self.value.clone());
            return;
        };
        let member = body.entry(self.member).or_insert_with(|| json!({}));
        member[inner] = self.value.clone();
    }

    /// How it changes, for people. Values of environment variables are often secrets: only their names are shown.
    pub fn describe(&self, old: &Value) -> String {
        let (Some(old_table), Some(new_table)) = (old.as_object(), self.value.as_object()) else {
            return format!("{} {}{} → {}{}", self.label, text(old), self.unit, text(&self.value), self.unit);
        };
        let added = new_table.keys().filter(|key| !old_table.contains_key(*key)).map(|key| format!("+{key}"));
        let removed =
            old_table.keys().filter(|key| !new_table.contains_key(*key)).map(|key| format!("-{key}"));
        let changed =
            new_table.iter().filter(|(key, value)| old_table.get(*key).is_some_and(|old| old != *value));
        let all = added.chain(removed).chain(changed.map(|(key, _)| format!("~{key}")));
        format!("{} {}", self.label, all.collect::<Vec<_>>().join(" "))
    }
}

/// The members that `settings` sets.
pub fn fields(settings: &Settings) -> Vec<Field> {
    let Settings {
        description,
        memory_mib,
        timeout_s,
        ephemeral_storage_mib,
        environment,
        layers,
        log_format,
        network,
        instance_concurrency,
        ..
    } = settings;
    let field = |member, inner, label, unit, value: Option<Value>, absent: Value| {
        Some(Field { member, inner, label, unit, value: value?, absent })
    };
    let value = |number: &Option<u64>| number.map(|number| json!(number));
    [
        field("Description", None, "description", "", description.as_ref().map(|t| json!(t)), json!("")),
        field("MemorySize", None, "memory", " MiB", value(memory_mib), json!(128)),
        field("Timeout", None, "timeout", " s", value(timeout_s), json!(3)),
        field("EphemeralStorage", Some("Size"), "tmp", " MiB", value(ephemeral_storage_mib), json!(512)),
        field(
            "Environment",
            Some("Variables"),
            "environment",
            "",
            environment.as_ref().map(|t| json!(t)),
            json!({}),
        ),
        field("Layers", None, "layers", "", layers.as_ref().map(|list| json!(list)), json!([])),
        field(
            "LoggingConfig",
            Some("LogFormat"),
            "log format",
            "",
            log_format.as_ref().map(|t| json!(t)),
            json!("Text"),
        ),
        field(
            "Brooklet",
            Some("Network"),
            "network",
            "",
            network.as_ref().map(|t| json!(t)),
            json!("default"),
        ),
        field(
            "Brooklet",
            Some("InstanceConcurrency"),
            "instance concurrency",
            "",
            value(instance_concurrency),
            json!(1),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => or_none(text).to_string(),
        Value::Array(list) if list.is_empty() => "none".to_string(),
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// `none` for nothing.
pub fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}
