//! The patterns of botocore's service model for Lambda. Each is the text that a refusal names, and a function that
//! says what it means: a dozen short functions instead of an engine for regular expressions.

/// A pattern: as the service model writes it, and whether a text satisfies it.
pub(super) struct Pattern {
    pub text: &'static str,
    pub fits: fn(&str) -> bool,
}

const fn pattern(text: &'static str, fits: fn(&str) -> bool) -> Pattern {
    Pattern { text, fits }
}

pub(super) const NAME: Pattern = pattern(
    "(arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:)?(\\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\\$LATEST|[a-zA-Z0-9-_]+))?",
    // The other parts were taken off before.
    is_word,
);
pub(super) const ALIAS: Pattern = pattern("(?!^[0-9]+$)([a-zA-Z0-9-_]+)", is_alias);
pub(super) const URL_QUALIFIER: Pattern = pattern("((?!^\\d+$)^[0-9a-zA-Z-_]+$)", is_alias);
pub(super) const VERSION: Pattern =
    pattern("(\\$LATEST(\\.PUBLISHED)?|[0-9]+)", |text| text == model::LATEST || is_number(text));
pub(super) const NUMBER: Pattern = pattern("[0-9]+", is_number);
pub(super) const ROLE: Pattern =
    pattern("arn:(aws[a-zA-Z-]*)?:iam::\\d{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+", is_role);
pub(super) const LAYER: Pattern =
    pattern("arn:[a-zA-Z0-9-]+:lambda:[a-zA-Z0-9-]+:\\d{12}:layer:[a-zA-Z0-9-_]+:[0-9]+", is_layer);
pub(super) const LOG_GROUP: Pattern =
    pattern("[\\.\\-_/#A-Za-z0-9]+", |text| consists_of(text, |b| alphanumeric(b) || b".-_/#".contains(&b)));
pub(super) const VARIABLE: Pattern = pattern("[a-zA-Z]([a-zA-Z0-9_])+", is_variable);
pub(super) const HANDLER: Pattern = pattern("[^\\s]+", is_unspaced);
pub(super) const STATEMENT: Pattern = pattern("([a-zA-Z0-9-_]+)", is_word);
pub(super) const ACTION: Pattern = pattern("(lambda:[*]|lambda:[a-zA-Z]+|[*])", is_action);
pub(super) const PRINCIPAL: Pattern = pattern("[^\\s]+", is_unspaced);
pub(super) const ACCOUNT: Pattern = pattern("\\d{12}", is_account);
pub(super) const TOKEN: Pattern =
    pattern("[a-zA-Z0-9._\\-]+", |text| consists_of(text, |b| alphanumeric(b) || b"._-".contains(&b)));
pub(super) const ORGANISATION: Pattern = pattern("o-[a-z0-9]{10,32}", is_organisation);
pub(super) const SOURCE: Pattern = pattern(
    "arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\\-])+:([a-z]{2}(-gov)?-[a-z]+-\\d{1})?:(\\d{12})?:(.*)",
    is_source,
);

fn is_role(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", partition, "iam", "", account, role] = parts[..] else { return false };
    let name = role.strip_prefix("role").unwrap_or_default();
    let partition_fits = partition.is_empty()
        || partition
            .strip_prefix("aws")
            .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-'));
    partition_fits
        && is_account(account)
        && name != "/"
        && consists_of(name, |b| alphanumeric(b) || b"+=,.@-_/".contains(&b))
}

fn is_layer(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let ["arn", partition, "lambda", region, account, "layer", name, version] = parts[..] else {
        return false;
    };
    is_dashed(partition) && is_dashed(region) && is_account(account) && is_word(name) && is_number(version)
}

/// A region is any lower-case word here.
fn is_source(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", partition, service, region, account, _] = parts[..] else { return false };
    partition.starts_with("aws")
        && is_dashed(partition)
        && is_dashed(service)
        && (region.is_empty() || is_dashed(region))
        && (account.is_empty() || is_account(account))
}

fn is_action(text: &str) -> bool {
    match text.strip_prefix("lambda:") {
        Some(verb) => verb == "*" || consists_of(verb, |b| b.is_ascii_alphabetic()),
        None => text == "*",
    }
}

fn is_organisation(text: &str) -> bool {
    let id = text.strip_prefix("o-").unwrap_or_default();
    (10..=32).contains(&id.len()) && consists_of(id, |b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn is_variable(text: &str) -> bool {
    text.len() >= 2
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && consists_of(text, |b| alphanumeric(b) || b == b'_')
}

fn is_alias(text: &str) -> bool {
    is_word(text) && !is_number(text)
}

fn is_word(text: &str) -> bool {
    consists_of(text, |b| alphanumeric(b) || b == b'-' || b == b'_')
}

fn is_dashed(text: &str) -> bool {
    consists_of(text, |b| alphanumeric(b) || b == b'-')
}

fn is_number(text: &str) -> bool {
    consists_of(text, |b| b.is_ascii_digit())
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && is_number(text)
}

fn is_unspaced(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_whitespace)
}

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

/// Whether all bytes are of a kind, and there is one.
fn consists_of(text: &str, kind: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the texts fit.
    fn check(pattern: &Pattern, fitting: &[&str], others: &[&str]) {
        for text in fitting {
            assert!((pattern.fits)(text), "{text:?} fits {}", pattern.text);
        }
        for text in others {
            assert!(!(pattern.fits)(text), "{text:?} does not fit {}", pattern.text);
        }
    }

    #[test]
    fn patterns_mean_what_the_service_model_writes() {
        check(&ALIAS, &["live", "v1", "1a"], &["", "12", "a b", "a:b"]);
        check(&VERSION, &["$LATEST", "1", "007"], &["", "latest", "-1"]);
        check(
            &ROLE,
            &[
                "arn:aws:iam::123456789012:role/r",
                "arn:aws-cn:iam::123456789012:role/a/b",
                "arn::iam::123456789012:role/x",
            ],
            &[
                "",
                "role",
                "arn:aws:iam::12:role/r",
                "arn:aws:iam::123456789012:role/",
                "arn:aws:iam::123456789012:user/r",
            ],
        );
        check(
            &LAYER,
            &["arn:aws:lambda:us-east-1:123456789012:layer:a-b_c:7"],
            &[
                "arn:aws:lambda:us-east-1:123456789012:layer:a",
                "arn:aws:lambda:us-east-1:123456789012:layer:a:x",
            ],
        );
        check(&VARIABLE, &["AB", "a_1"], &["", "A", "1A", "_A", "A-B"]);
        check(&ACTION, &["*", "lambda:*", "lambda:InvokeFunction"], &["", "lambda:", "lambda:A1", "s3:*"]);
        check(&ORGANISATION, &["o-abcdefghi0"], &["o-short", "O-abcdefghi0", "o-ABCDEFGHI0"]);
        check(
            &SOURCE,
            &["arn:aws:s3:::bucket/key", "arn:aws:sns:us-east-1:123456789012:t"],
            &["arn:aws:s3", "x"],
        );
        check(&LOG_GROUP, &["/aws/lambda/f#1"], &["", "a b", "a:b"]);
    }
}
