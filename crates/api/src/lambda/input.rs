//! Reads a request's JSON body member by member: wrong types are a `SerializationException` at once, missing
//! members and unknown enumeration values are gathered and told together in one `ValidationException`, unknown
//! members are ignored. Ranges and patterns are the control plane's to judge.

use crate::error::{ApiError, Kind, Result};
use crate::json::{Structure, Value};
use base64::Engine;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The deepest nesting of what is only kept, far above any structure of the service model: kept deeper it could not
/// be read again, and the function with it.
const MAX_KEPT_DEPTH: usize = 16;

/// The most of it, in bytes of JSON: it is in memory as long as the function is in use.
const MAX_KEPT: usize = 16 * 1024;

/// One failed constraint: `Value 'x' at 'memorySize' failed to satisfy constraint: …`.
pub fn violation(path: &str, value: Option<&str>, constraint: &str) -> String {
    let value = value.map_or("null".into(), |value| format!("'{value}'"));
    format!("Value {value} at '{path}' failed to satisfy constraint: {constraint}")
}

/// The members of a request, each to be taken once.
pub struct Input<'a> {
    members: Structure<'a>,
    /// `""` for the body itself, `code.` for its member `Code`.
    path: String,
    violations: Vec<String>,
}

impl<'a> Input<'a> {
    /// Parses a body; an empty one has no members.
    pub fn parse(body: &'a [u8]) -> Result<Input<'a>> {
        let members = match body.is_empty() {
            true => Structure::new(),
            false => match serde_json::from_slice(body) {
                Ok(Value::Structure(members)) => members,
                Ok(other) => return Err(unexpected(&other, "a Structure", "")),
                Err(error) => {
                    let message = format!("Could not parse request body into json: {error}");
                    return Err(ApiError::new(Kind::SerializationException, message));
                }
            },
        };
        Ok(Input { members, path: String::new(), violations: Vec::new() })
    }

    /// Tells all broken constraints at once; to be called when every member has been taken.
    pub fn finish(self) -> Result<()> {
        let count = self.violations.len();
        if count == 0 {
            return Ok(());
        }
        let plural = if count == 1 { "" } else { "s" };
        let list = self.violations.join("; ");
        let message = format!("{count} validation error{plural} detected: {list}");
        Err(ApiError::new(Kind::ValidationException, message))
    }

    /// Notes that a required member is absent; gives a value to go on with.
    pub fn require<T: Default>(&mut self, name: &str, value: Option<T>) -> T {
        value.unwrap_or_else(|| {
            let path = self.path_of(name);
            self.violations.push(violation(&path, None, "Member must not be null"));
            T::default()
        })
    }

    /// A string.
    pub fn string(&mut self, name: &str) -> Result<Option<String>> {
        let path = self.path_of(name);
        self.take(name).map(|value| Ok(text(value, &path)?.into_owned())).transpose()
    }

    /// A string that must be one of these.
    pub fn one_of(&mut self, name: &str, values: &[&'static str]) -> Result<Option<&'static str>> {
        let path = self.path_of(name);
        let Some(value) = self.take(name) else { return Ok(None) };
        let text = text(value, &path)?;
        let known = values.iter().find(|value| **value == text).copied();
        if known.is_none() {
            let constraint = format!("Member must satisfy enum value set: [{}]", values.join(", "));
            self.violations.push(violation(&path, Some(&text), &constraint));
        }
        Ok(known)
    }

    /// An integer.
    pub fn integer(&mut self, name: &str) -> Result<Option<i64>> {
        let path = self.path_of(name);
        let Some(value) = self.take(name) else { return Ok(None) };
        let Value::Number(number) = &value else { return Err(unexpected(&value, "an Integer", &path)) };
        // Clients that compute with floats send 128.0.
        let number =
            number.as_i64().or_else(|| number.as_f64().filter(|n| n.fract() == 0.0).map(|n| n as i64));
        number.map(Some).ok_or_else(|| unexpected(&value, "an Integer", &path))
    }

    /// A boolean.
    pub fn boolean(&mut self, name: &str) -> Result<Option<bool>> {
        let path = self.path_of(name);
        match self.take(name) {
            None => Ok(None),
            Some(Value::Boolean(value)) => Ok(Some(value)),
            Some(other) => Err(unexpected(&other, "a Boolean", &path)),
        }
    }

    /// Bytes in base64.
    pub fn blob(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path_of(name);
        let Some(value) = self.take(name) else { return Ok(None) };
        let text = text(value, &path)?;
        base64::engine::general_purpose::STANDARD.decode(text.as_bytes()).map(Some).map_err(|error| {
            let message = format!("'{path}' must be base64: {error}");
            ApiError::new(Kind::SerializationException, message)
        })
    }

    /// A list of strings.
    pub fn strings(&mut self, name: &str) -> Result<Option<Vec<String>>> {
        let path = self.path_of(name);
        let values = match self.take(name) {
            None => return Ok(None),
            Some(Value::List(values)) => values,
            Some(other) => return Err(unexpected(&other, "a List", &path)),
        };
        let strings = values.into_iter().map(|value| Ok(text(value, &path)?.into_owned()));
        strings.collect::<Result<_>>().map(Some)
    }

    /// A map of strings.
    pub fn string_map(&mut self, name: &str) -> Result<Option<BTreeMap<String, String>>> {
        let path = self.path_of(name);
        match self.take(name) {
            None => Ok(None),
            Some(Value::Structure(members)) => members
                .into_iter()
                .map(|(name, value)| Ok((name.into_owned(), text(value, &path)?.into_owned())))
                .collect::<Result<_>>()
                .map(Some),
            Some(other) => Err(unexpected(&other, "a Map", &path)),
        }
    }

    /// A map of numbers.
    pub fn number_map(&mut self, name: &str) -> Result<Option<BTreeMap<String, f64>>> {
        let path = self.path_of(name);
        let members = match self.take(name) {
            None => return Ok(None),
            Some(Value::Structure(members)) => members,
            Some(other) => return Err(unexpected(&other, "a Map", &path)),
        };
        let mut map = BTreeMap::new();
        for (name, value) in members {
            match &value {
                Value::Number(number) => map.insert(name.into_owned(), number.as_f64().unwrap_or(f64::NAN)),
                other => return Err(unexpected(other, "a Double", &path)),
            };
        }
        Ok(Some(map))
    }

    /// A nested structure, read by `read`.
    pub fn structure<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Input<'a>) -> Result<T>,
    ) -> Result<Option<T>> {
        let path = self.path_of(name);
        let members = match self.take(name) {
            None => return Ok(None),
            Some(Value::Structure(members)) => members,
            Some(other) => return Err(unexpected(&other, "a Structure", &path)),
        };
        let mut inner = Input { members, path: format!("{path}."), violations: Vec::new() };
        let value = read(&mut inner)?;
        self.violations.append(&mut inner.violations);
        Ok(Some(value))
    }

    /// A structure or list that is only kept and given back: its own JSON.
    pub fn echo(&mut self, name: &str) -> Result<Option<serde_json::Value>> {
        let path = self.path_of(name);
        let json = match self.take(name) {
            None => return Ok(None),
            Some(value @ (Value::Structure(_) | Value::List(_))) if value.depth() <= MAX_KEPT_DEPTH => {
                value.to_json()
            }
            Some(Value::Structure(_) | Value::List(_)) => {
                let message = format!("'{path}' is nested deeper than {MAX_KEPT_DEPTH} levels.");
                return Err(ApiError::new(Kind::SerializationException, message));
            }
            Some(other) => return Err(unexpected(&other, "a Structure", &path)),
        };
        match json.to_string().len() {
            0..=MAX_KEPT => Ok(Some(json)),
            bytes => Err(ApiError::invalid(format!(
                "'{path}' takes {bytes} bytes; Brooklet keeps at most {MAX_KEPT}."
            ))),
        }
    }

    /// Takes a member out; `null` counts as absent, and of several with one name the last counts.
    fn take(&mut self, name: &str) -> Option<Value<'a>> {
        let index = self.members.iter().rposition(|(member, _)| member == name)?;
        match self.members.remove(index).1 {
            Value::Null => None,
            value => Some(value),
        }
    }

    /// AWS names members in messages with a small first letter.
    fn path_of(&self, name: &str) -> String {
        let (first, rest) = name.split_at(name.chars().next().map_or(0, char::len_utf8));
        format!("{}{}{rest}", self.path, first.to_lowercase())
    }
}

fn text<'a>(value: Value<'a>, path: &str) -> Result<Cow<'a, str>> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(unexpected(&other, "a String", path)),
    }
}

/// AWS's words for a value of the wrong type, and where it is.
fn unexpected(found: &Value<'_>, wanted: &str, path: &str) -> ApiError {
    let at = if path.is_empty() { String::new() } else { format!(" (at '{path}')") };
    let message = match found {
        Value::List(_) => format!("Start of list found where not expected{at}"),
        Value::Structure(_) => format!("Start of structure or map found where not expected{at}"),
        scalar => {
            let found = match scalar {
                Value::Boolean(true) => "TRUE_VALUE",
                Value::Boolean(false) => "FALSE_VALUE",
                Value::Number(number) if number.is_f64() => "DECIMAL_VALUE",
                Value::Number(_) => "NUMBER_VALUE",
                Value::String(_) => "STRING_VALUE",
                _ => "NULL_VALUE",
            };
            format!("{found} can not be converted to {wanted}{at}")
        }
    };
    ApiError::new(Kind::SerializationException, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads one member of each kind.
    fn read(body: &str) -> Result<()> {
        let mut input = Input::parse(body.as_bytes())?;
        let name = input.string("Name")?;
        input.require("Name", name);
        input.one_of("Mode", &["Active", "PassThrough"])?;
        input.integer("MemorySize")?;
        input.boolean("Publish")?;
        input.strings("Architectures")?;
        input.structure("Code", |code| code.blob("ZipFile"))?;
        input.structure("Storage", |storage| storage.one_of("Kind", &["Disk"]))?;
        input.string_map("Tags")?;
        input.finish()
    }

    fn check(body: &str, expected: &str) {
        let actual = match read(body) {
            Ok(()) => "fine".to_owned(),
            Err(error) => format!("{:?}: {}", error.kind, error.message),
        };
        assert_eq!(actual, expected, "{body}");
    }

    #[test]
    fn unknown_members_and_nulls_are_ignored() {
        check(r#"{"Name":"f","Surprise":[1,{}],"Mode":null,"MemorySize":128.0}"#, "fine");
    }

    #[test]
    fn a_wrong_type_is_a_serialization_exception() {
        for (body, message) in [
            (r#"{"Name":7}"#, "NUMBER_VALUE can not be converted to a String (at 'name')"),
            (r#"{"Name":true}"#, "TRUE_VALUE can not be converted to a String (at 'name')"),
            (r#"{"Name":["f"]}"#, "Start of list found where not expected (at 'name')"),
            (r#"{"Name":{}}"#, "Start of structure or map found where not expected (at 'name')"),
            (
                r#"{"Name":"f","MemorySize":"128"}"#,
                "STRING_VALUE can not be converted to an Integer (at 'memorySize')",
            ),
            (
                r#"{"Name":"f","MemorySize":1.5}"#,
                "DECIMAL_VALUE can not be converted to an Integer (at 'memorySize')",
            ),
            (
                r#"{"Name":"f","Publish":"true"}"#,
                "STRING_VALUE can not be converted to a Boolean (at 'publish')",
            ),
            (r#"{"Name":"f","Code":"zip"}"#, "STRING_VALUE can not be converted to a Structure (at 'code')"),
            (
                r#"{"Name":"f","Architectures":[1]}"#,
                "NUMBER_VALUE can not be converted to a String (at 'architectures')",
            ),
            (r#"{"Name":"f","Tags":{"a":1}}"#, "NUMBER_VALUE can not be converted to a String (at 'tags')"),
            (
                r#"{"Name":"f","Code":{"ZipFile":"%%%"}}"#,
                "'code.zipFile' must be base64: Invalid symbol 37, offset 0.",
            ),
            (r#"["f"]"#, "Start of list found where not expected"),
        ] {
            check(body, &format!("SerializationException: {message}"));
        }
    }

    #[test]
    fn what_is_not_json_is_said_to_be_that() {
        check(
            "{'Name':1}",
            "SerializationException: Could not parse request body into json: key must be a string at line 1 column 2",
        );
    }

    #[test]
    fn missing_and_unknown_values_are_told_together() {
        check(
            "{}",
            "ValidationException: 1 validation error detected: Value null at 'name' failed to satisfy constraint: \
             Member must not be null",
        );
        check(
            r#"{"Mode":"On","Storage":{"Kind":"Tape"}}"#,
            "ValidationException: 3 validation errors detected: \
             Value null at 'name' failed to satisfy constraint: Member must not be null; \
             Value 'On' at 'mode' failed to satisfy constraint: Member must satisfy enum value set: [Active, PassThrough]; \
             Value 'Tape' at 'storage.kind' failed to satisfy constraint: Member must satisfy enum value set: [Disk]",
        );
    }
}
