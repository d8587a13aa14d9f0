//! Collects what is wrong with a request, in the service's words.

use super::ControlError;
use super::error::Violation;
use super::pattern::{self, Pattern};
use std::fmt::Display;

/// Everything found wrong so far.
#[derive(Default)]
pub(super) struct Checks {
    violations: Vec<Violation>,
    /// A function's name longer than its operation takes, which Lambda reports as another type of error.
    long_name: Option<String>,
}

impl Checks {
    /// Refuses when anything was wrong.
    pub fn done(self) -> Result<(), ControlError> {
        match (self.violations.is_empty(), self.long_name) {
            (false, _) => Err(ControlError::Violations(self.violations)),
            (true, Some(name)) => Err(ControlError::invalid(
                "FunctionName",
                format!(
                    "1 validation error detected: Value '{name}' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 64"
                ),
            )),
            (true, None) => Ok(()),
        }
    }

    /// Notes a value that breaks a constraint.
    pub fn add(&mut self, member: &str, value: impl Display, constraint: impl Into<String>) {
        let violation =
            Violation { member: member.to_owned(), value: value.to_string(), constraint: constraint.into() };
        self.violations.push(violation);
    }

    /// A required member that is missing.
    pub fn null(&mut self, member: &str) {
        self.add(member, "null", "Member must not be null");
    }

    /// A number that must be at least `least`.
    pub fn least(&mut self, member: &str, value: i64, least: i64) {
        if value < least {
            self.add(member, value, format!("Member must have value greater than or equal to {least}"));
        }
    }

    /// A number that may be at most `most`.
    pub fn most(&mut self, member: &str, value: i64, most: i64) {
        if value > most {
            self.add(member, value, format!("Member must have value less than or equal to {most}"));
        }
    }

    /// A number, if it is given.
    pub fn range(&mut self, member: &str, value: Option<i64>, least: i64, most: i64) {
        if let Some(value) = value {
            self.least(member, value, least);
            self.most(member, value, most);
        }
    }

    /// A text's length, in characters.
    pub fn length(&mut self, member: &str, value: &str, least: usize, most: usize) {
        let length = value.chars().count();
        if length < least {
            self.add(member, value, format!("Member must have length greater than or equal to {least}"));
        }
        if length > most {
            self.add(member, value, format!("Member must have length less than or equal to {most}"));
        }
    }

    /// A text's form.
    pub fn pattern(&mut self, member: &str, value: &str, pattern: &Pattern) {
        if !(pattern.fits)(value) {
            self.add(
                member,
                value,
                format!("Member must satisfy regular expression pattern: {}", pattern.text),
            );
        }
    }

    /// One of several words.
    pub fn one_of(&mut self, member: &str, value: &str, values: &[&str]) {
        if !values.contains(&value) {
            self.add(member, value, format!("Member must satisfy enum value set: [{}]", values.join(", ")));
        }
    }

    /// A list of at most `most` texts, each of `shortest` to `longest` characters.
    pub fn strings(&mut self, member: &str, values: &[String], most: usize, shortest: usize, longest: usize) {
        if values.len() > most {
            let list = format!("[{}]", values.join(", "));
            self.add(member, list, format!("Member must have length less than or equal to {most}"));
        }
        for value in values {
            self.length(&format!("{member}.member"), value, shortest, longest);
        }
    }

    /// A function's bare name.
    pub fn name(&mut self, name: &str) {
        self.length("functionName", name, 1, 140);
        if name.len() > 64 {
            self.long_name = Some(name.to_owned());
        }
        self.pattern("functionName", name, &pattern::NAME);
    }

    /// A description, if it is given.
    pub fn description(&mut self, description: Option<&str>) {
        if let Some(description) = description {
            self.length("description", description, 0, 256);
        }
    }
}
