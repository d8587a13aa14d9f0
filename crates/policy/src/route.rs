//! Which version an alias sends a request to.

use model::{Alias, Version};

/// The version that serves a request, for `draw`, a uniformly random number in [0, 1).
///
/// A version with weight w gets that share of the requests, the alias's own version the rest
/// (<https://docs.aws.amazon.com/lambda/latest/dg/configuring-alias-routing.html>).
pub fn version(alias: &Alias, draw: f64) -> Version {
    let mut below = 0.0;
    for (&version, &weight) in &alias.weights {
        below += weight;
        if draw < below {
            return version;
        }
    }
    alias.version
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(weights: &[(u64, f64)], draw: f64) -> String {
        let weights = weights.iter().map(|&(number, weight)| (Version::Number(number), weight)).collect();
        let (description, revision_id) = (String::new(), String::new());
        version(&Alias { version: Version::Number(1), weights, description, revision_id }, draw).to_string()
    }

    #[test]
    fn without_weights_every_request_goes_to_the_alias_version() {
        assert_eq!(check(&[], 0.0), "1");
        assert_eq!(check(&[], 0.999), "1");
    }

    #[test]
    fn a_weight_is_the_share_of_the_draws_below_it() {
        assert_eq!(check(&[(2, 0.1)], 0.0), "2");
        assert_eq!(check(&[(2, 0.1)], 0.0999), "2");
        assert_eq!(check(&[(2, 0.1)], 0.1), "1");
    }

    #[test]
    fn a_weight_of_zero_gets_nothing_and_of_one_everything() {
        assert_eq!(check(&[(2, 0.0)], 0.0), "1");
        assert_eq!(check(&[(2, 1.0)], 0.999_999_999), "2");
    }
}
