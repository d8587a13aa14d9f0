//! The ways to name a function: `f`, `f:prod`, `123456789012:function:f`, a whole ARN.

use crate::error::{ApiError, Kind, Result};
use crate::lambda::input::violation;
use model::Account;

/// The service model's pattern for operations on what exists (`NamespacedFunctionName`, `FunctionName`).
const PATTERN: &str = r"(arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?";

/// A function as a caller named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionName {
    /// The bare name, 1 to 64 characters.
    pub name: String,
    /// What came after it: `$LATEST`, a version number or an alias.
    pub qualifier: Option<String>,
}

/// Reads a function name in any of its forms.
///
/// `ValidationException` when it is none of them; `ResourceNotFoundException` and `AccessDeniedException` when
/// it names another region or account than `account`.
pub fn parse(text: &str, account: &Account) -> Result<FunctionName> {
    let refuse = |constraint: &str| {
        let violation = violation("functionName", Some(text), constraint);
        Err(ApiError::new(Kind::ValidationException, format!("1 validation error detected: {violation}")))
    };
    if text.is_empty() {
        return refuse("Member must have length greater than or equal to 1");
    }
    if text.len() > 256 {
        return refuse("Member must have length less than or equal to 256");
    }
    let Some(parts) = split(text) else {
        return refuse(&format!("Member must satisfy regular expression pattern: {PATTERN}"));
    };
    if parts.name.len() > 64 {
        // Not a ValidationException: the model allows 140 characters, the service itself 64.
        let constraint = "Member must have length less than or equal to 64";
        let violation = violation("functionName", Some(text), constraint);
        return Err(ApiError::invalid(format!("1 validation error detected: {violation}")));
    }
    if parts.region.is_some_and(|region| region != account.region) {
        let region = parts.region.unwrap_or_default();
        return Err(ApiError::not_found(format!(
            "Functions from '{region}' are not reachable in this region ('{}')",
            account.region
        )));
    }
    if parts.account.is_some_and(|id| id != account.id) {
        return Err(ApiError::new(
            Kind::AccessDeniedException,
            format!(
                "Not authorized to reach functions of account {}: this server's account is {}. Use its id in \
                 ARNs, or start the server with --account-id.",
                parts.account.unwrap_or_default(),
                account.id
            ),
        ));
    }
    Ok(FunctionName { name: parts.name.to_owned(), qualifier: parts.qualifier.map(str::to_owned) })
}

/// The qualifier that a name and a `Qualifier` parameter give together.
pub fn qualifier(named: Option<String>, parameter: Option<&str>) -> Result<Option<String>> {
    match (named, parameter.filter(|qualifier| !qualifier.is_empty())) {
        (Some(named), Some(parameter)) if named != parameter => Err(ApiError::invalid(
            "The derived qualifier from the function name does not match the specified qualifier.",
        )),
        (Some(named), _) => Ok(Some(named)),
        (None, Some(parameter)) if is_qualifier(parameter) && parameter.len() <= 128 => {
            Ok(Some(parameter.to_owned()))
        }
        (None, Some(parameter)) => {
            let constraint = match parameter.len() {
                0..=128 => "Member must satisfy regular expression pattern: (|[a-zA-Z0-9$_-]+)",
                _ => "Member must have length less than or equal to 128",
            };
            let violation = violation("qualifier", Some(parameter), constraint);
            Err(ApiError::new(Kind::ValidationException, format!("1 validation error detected: {violation}")))
        }
        (None, None) => Ok(None),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Parts<'a> {
    region: Option<&'a str>,
    account: Option<&'a str>,
    name: &'a str,
    qualifier: Option<&'a str>,
}

/// Takes a name apart as the pattern does, each optional part when it can be there.
fn split(text: &str) -> Option<Parts<'_>> {
    let mut rest = text;
    if let Some(arn) = rest.strip_prefix("arn:") {
        let (partition, after) = arn.split_once(':')?;
        let letters = partition.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-');
        if !(partition.is_empty() || partition.starts_with("aws") && letters) {
            return None;
        }
        rest = after.strip_prefix("lambda:")?;
    }
    let region = take(&mut rest, is_region);
    let account = take(&mut rest, |part| part.len() == 12 && part.bytes().all(|b| b.is_ascii_digit()));
    take(&mut rest, |part| part == "function");
    let (name, qualifier) = match rest.split_once(':') {
        Some((name, qualifier)) => (name, Some(qualifier)),
        None => (rest, None),
    };
    let valid =
        is_word(name) && qualifier.is_none_or(|qualifier| qualifier == "$LATEST" || is_word(qualifier));
    valid.then_some(Parts { region, account, name, qualifier })
}

/// Takes the part before the next colon if it is as wanted.
fn take<'a>(rest: &mut &'a str, wanted: impl Fn(&str) -> bool) -> Option<&'a str> {
    let (part, after) = rest.split_once(':')?;
    wanted(part).then(|| {
        *rest = after;
        part
    })
}

/// `us-east-1`, `us-gov-west-1`, `us-isob-east-1`.
fn is_region(part: &str) -> bool {
    let mut labels = part.split('-');
    let letters = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_lowercase());
    let Some(country) = labels.next() else { return false };
    let labels: Vec<&str> = labels.collect();
    let place = match labels.as_slice() {
        [kind, place, number] if *kind == "gov" || kind.starts_with("iso") && kind.len() <= 4 => {
            [place, number]
        }
        [place, number] => [place, number],
        _ => return false,
    };
    let number = place[1];
    country.len() == 2
        && letters(country)
        && letters(place[0])
        && number.len() == 1
        && number.bytes().all(|b| b.is_ascii_digit())
}

/// Letters, digits, `-` and `_`, at least one.
pub fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// What a `Qualifier` parameter may be.
fn is_qualifier(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"$_-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account { id: "123456789012".into(), region: "us-east-1".into() }
    }

    fn check(text: &str, expected: &str) {
        let actual = match parse(text, &account()) {
            Ok(FunctionName { name, qualifier: None }) => name,
            Ok(FunctionName { name, qualifier: Some(qualifier) }) => format!("{name} at {qualifier}"),
            Err(error) => format!("{:?}: {}", error.kind, error.message),
        };
        assert_eq!(actual, expected, "{text}");
    }

    #[test]
    fn a_name_may_be_bare_partial_or_a_whole_arn() {
        check("f", "f");
        check("f:prod", "f at prod");
        check("f:$LATEST", "f at $LATEST");
        check("f:7", "f at 7");
        check("function:f", "f");
        check("123456789012:function:f", "f");
        check("123456789012:function:f:prod", "f at prod");
        check("123456789012:f", "f");
        check("us-east-1:123456789012:function:f", "f");
        check("arn:aws:lambda:us-east-1:123456789012:function:f", "f");
        check("arn:aws:lambda:us-east-1:123456789012:function:f:3", "f at 3");
        check("123456789012", "123456789012");
        check("function", "function");
        check("us-east-1", "us-east-1");
    }

    #[test]
    fn another_region_or_account_is_said_to_be_that() {
        check(
            "arn:aws:lambda:eu-west-1:123456789012:function:f",
            "ResourceNotFoundException: Functions from 'eu-west-1' are not reachable in this region ('us-east-1')",
        );
        check(
            "arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:f",
            "ResourceNotFoundException: Functions from 'us-gov-west-1' are not reachable in this region ('us-east-1')",
        );
        check(
            "999999999999:function:f",
            "AccessDeniedException: Not authorized to reach functions of account 999999999999: this server's account \
             is 123456789012. Use its id in ARNs, or start the server with --account-id.",
        );
    }

    #[test]
    fn anything_else_is_a_validation_error_with_the_models_pattern() {
        for text in
            ["a b", "f:", ":f", "f:a:b", "arn:aws:s3:::b", "arn:gcp:lambda:f", "f:$HEAD", "ü", "a/b", "f.g"]
        {
            check(
                text,
                &format!(
                    "ValidationException: 1 validation error detected: Value '{text}' at 'functionName' failed to \
                     satisfy constraint: Member must satisfy regular expression pattern: {PATTERN}"
                ),
            );
        }
        let long = "x".repeat(65);
        check(
            &long,
            &format!(
                "InvalidParameterValueException: 1 validation error detected: Value '{long}' at 'functionName' failed to satisfy \
                 constraint: Member must have length less than or equal to 64"
            ),
        );
    }

    #[test]
    fn the_pattern_is_the_service_models() {
        let Some(model) = crate::testing::service_model() else { return };
        assert_eq!(model["shapes"]["FunctionName"]["pattern"], PATTERN);
    }

    #[test]
    fn a_qualifier_given_twice_must_be_the_same() {
        assert_eq!(qualifier(Some("1".into()), Some("1")).unwrap().as_deref(), Some("1"));
        assert_eq!(qualifier(None, Some("prod")).unwrap().as_deref(), Some("prod"));
        assert_eq!(qualifier(None, Some("")).unwrap(), None);
        assert_eq!(
            qualifier(Some("1".into()), Some("2")).unwrap_err().message,
            "The derived qualifier from the function name does not match the specified qualifier."
        );
        assert_eq!(
            qualifier(None, Some("a b")).unwrap_err().message,
            "1 validation error detected: Value 'a b' at 'qualifier' failed to satisfy constraint: Member must satisfy \
             regular expression pattern: (|[a-zA-Z0-9$_-]+)"
        );
    }
}
