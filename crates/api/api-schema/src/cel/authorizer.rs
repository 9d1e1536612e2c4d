//! Authorizer: what expressions may ask about permissions; the caller answers.

/// One question: may the user do this? Of a path `path` is set, of a resource the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// (namespace, name), when it is asked about instead of the request's user.
    pub service_account: Option<(String, String)>,
    pub verb: String,
    pub path: Option<String>,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    pub error: Option<String>,
}

/// Answers questions about permissions. Called while an expression is evaluated: no I/O.
pub trait Authorizer {
    fn check(&self, question: &Question) -> Decision;
}

/// A question in the making, as a value.
pub struct Check<'a> {
    pub(super) asked: &'a dyn Authorizer,
    pub(super) question: Question,
}

impl std::fmt::Debug for Check<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.question.fmt(f)
    }
}

/// The value of the variable `authorizer`.
pub fn value(asked: &dyn Authorizer) -> super::Value<'_> {
    super::Value::Authorizer(std::rc::Rc::new(Check { asked, question: Question::default() }))
}

/// The value of `authorizer.requestResource`: a question already about the request's own resource.
pub fn about(asked: &dyn Authorizer, question: Question) -> super::Value<'_> {
    super::Value::Authorizer(std::rc::Rc::new(Check { asked, question }))
}
