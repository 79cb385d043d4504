//! What a TURN server answers, for the fuzz target.

/// Plays the answers of which the input tells to an allocation.
///
/// # Panics
/// Something does not hold that must whatever a server answers: nobody without the key makes an allocation, say.
pub fn answers(input: &[u8]) {
    super::allocation::fuzzing::answers(input);
}
