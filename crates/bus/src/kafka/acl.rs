//! Who may read what on a cluster with an authorizer: rights are listed, given and taken away.
//!
//! The binding has no call for it, so this file speaks to librdkafka itself. It is the only one with `unsafe` in it.

#![expect(unsafe_code, reason = "the rdkafka crate wraps no ACL call of librdkafka, which it exports")]

use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::ptr::{null, null_mut};

use hutong_core::{Error, ErrorKind, Result};
use rdkafka::bindings as c;
use rdkafka::bindings::rd_kafka_AclOperation_t as Operation;
use rdkafka::bindings::rd_kafka_AclPermissionType_t as Permission;
use rdkafka::bindings::rd_kafka_ResourcePatternType_t as Pattern;
use rdkafka::bindings::rd_kafka_ResourceType_t as Resource;
use rdkafka::bindings::rd_kafka_admin_op_t as Call;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::client::{Client, TIMEOUT};
use super::error::failed;

/// One thing that a principal may do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// Who, such as `User:renshe`.
    pub principal: String,
    /// What.
    pub may: May,
}

/// What a principal may do. The first three are all that Hutong gives to a subscriber.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum May {
    /// Read the records of the topic of this name.
    ReadTopic(String),
    /// See that the topic of this name is there, and where it ends.
    DescribeTopic(String),
    /// Use the groups whose names begin so.
    ReadGroups(String),
    /// Anything else, in Kafka's words: `ALLOW WRITE on TOPIC LITERAL name`.
    Other(String),
}

impl fmt::Display for May {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReadTopic(name) => write!(f, "READ on topic {name}"),
            Self::DescribeTopic(name) => write!(f, "DESCRIBE on topic {name}"),
            Self::ReadGroups(name) => write!(f, "READ on groups {name}*"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// Returns everything that a principal is allowed or denied by its own name.
pub(super) fn of(client: &Client, principal: &str) -> Result<Vec<Right>> {
    let doing = format!("list the rights of {principal}");
    let name = text(principal, &doing)?;
    // SAFETY: the strings outlive the call, which copies them; NULL stands for any. The filter is freed with `Bindings`.
    let filter = unsafe {
        let (any, mut why) = (Pattern::RD_KAFKA_RESOURCE_PATTERN_ANY, [0; 256]);
        c::rd_kafka_AclBindingFilter_new(
            Resource::RD_KAFKA_RESOURCE_ANY,
            null(),
            any,
            name.as_ptr(),
            null(),
            Operation::RD_KAFKA_ACL_OPERATION_ANY,
            Permission::RD_KAFKA_ACL_PERMISSION_TYPE_ANY,
            why.as_mut_ptr(),
            why.len(),
        )
    };
    let filter = Bindings::of(vec![filter], &doing)?;
    let answer = ask(client, Call::RD_KAFKA_ADMIN_OP_DESCRIBEACLS, &doing, |options, queue| {
        // SAFETY: client, filter, options and queue live until the answer has come.
        unsafe { c::rd_kafka_DescribeAcls(client.native(), filter.0[0], options, queue) };
    })?;
    let mut count = 0;
    // SAFETY: the event is of this kind, for it answers this call; what it holds lives as long as it does.
    unsafe {
        let result = c::rd_kafka_event_DescribeAcls_result(answer.0);
        if result.is_null() {
            return Err(Error::new(ErrorKind::Broken, doing, "the client answers something else"));
        }
        let found = c::rd_kafka_DescribeAcls_result_acls(result, &raw mut count);
        Ok((0..count).map(|at| Right { principal: principal.into(), may: may(*found.add(at)) }).collect())
    }
}

/// Gives rights; one that is there already stays as it is.
pub(super) fn give(client: &Client, rights: &[Right]) -> Result<()> {
    let doing = words("give", rights);
    let mut bindings = bindings(rights, &doing, |kind, name, pattern, principal, host, operation, why| {
        // SAFETY: the strings outlive the call, which copies them.
        unsafe {
            c::rd_kafka_AclBinding_new(
                kind,
                name,
                pattern,
                principal,
                host,
                operation,
                Permission::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
                why.as_mut_ptr(),
                why.len(),
            )
        }
    })?;
    let answer = ask(client, Call::RD_KAFKA_ADMIN_OP_CREATEACLS, &doing, |options, queue| {
        let (list, count) = (bindings.0.as_mut_ptr(), bindings.0.len());
        // SAFETY: client, bindings, options and queue live until the answer has come.
        unsafe { c::rd_kafka_CreateAcls(client.native(), list, count, options, queue) };
    })?;
    let mut count = 0;
    // SAFETY: the event is of this kind, for it answers this call; what it holds lives as long as it does.
    unsafe {
        let result = c::rd_kafka_event_CreateAcls_result(answer.0);
        if result.is_null() {
            return Err(Error::new(ErrorKind::Broken, doing, "the client answers something else"));
        }
        let each = c::rd_kafka_CreateAcls_result_acls(result, &raw mut count);
        (0..count).try_for_each(|at| well(c::rd_kafka_acl_result_error(*each.add(at)), &doing))
    }
}

/// Takes rights away; one that is not there is no error.
pub(super) fn take(client: &Client, rights: &[Right]) -> Result<()> {
    let doing = words("take away", rights);
    let mut filters = bindings(rights, &doing, |kind, name, pattern, principal, _, operation, why| {
        // SAFETY: the strings outlive the call, which copies them; a right counts from whatever host.
        unsafe {
            c::rd_kafka_AclBindingFilter_new(
                kind,
                name,
                pattern,
                principal,
                null(),
                operation,
                Permission::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
                why.as_mut_ptr(),
                why.len(),
            )
        }
    })?;
    let answer = ask(client, Call::RD_KAFKA_ADMIN_OP_DELETEACLS, &doing, |options, queue| {
        let (list, count) = (filters.0.as_mut_ptr(), filters.0.len());
        // SAFETY: client, filters, options and queue live until the answer has come.
        unsafe { c::rd_kafka_DeleteAcls(client.native(), list, count, options, queue) };
    })?;
    let mut count = 0;
    // SAFETY: the event is of this kind, for it answers this call; what it holds lives as long as it does.
    unsafe {
        let result = c::rd_kafka_event_DeleteAcls_result(answer.0);
        if result.is_null() {
            return Err(Error::new(ErrorKind::Broken, doing, "the client answers something else"));
        }
        let each = c::rd_kafka_DeleteAcls_result_responses(result, &raw mut count);
        (0..count)
            .try_for_each(|at| well(c::rd_kafka_DeleteAcls_result_response_error(*each.add(at)), &doing))
    }
}

/// Bindings or filters of librdkafka, freed with this.
struct Bindings(Vec<*mut c::rd_kafka_AclBinding_t>);

impl Bindings {
    fn of(list: Vec<*mut c::rd_kafka_AclBinding_t>, doing: &str) -> Result<Self> {
        let made = Self(list);
        match made.0.iter().any(|one| one.is_null()) {
            true => Err(Error::new(ErrorKind::Broken, doing, "the client does not take it")),
            false => Ok(made),
        }
    }
}

impl Drop for Bindings {
    fn drop(&mut self) {
        for one in self.0.iter().filter(|one| !one.is_null()) {
            // SAFETY: it was made by librdkafka and is freed here only.
            unsafe { c::rd_kafka_AclBinding_destroy(*one) };
        }
    }
}

/// An answer of librdkafka, freed with this.
struct Answer(*mut c::rd_kafka_event_t);

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: it came from a queue of librdkafka and is freed here only; NULL is let be.
        unsafe { c::rd_kafka_event_destroy(self.0) };
    }
}

type Make<'a> = &'a mut [c_char; 256];

/// Makes what librdkafka knows the rights by.
fn bindings(
    rights: &[Right],
    doing: &str,
    make: impl Fn(
        Resource,
        *const c_char,
        Pattern,
        *const c_char,
        *const c_char,
        Operation,
        Make<'_>,
    ) -> *mut c::rd_kafka_AclBinding_t,
) -> Result<Bindings> {
    let (topic, group) = (Resource::RD_KAFKA_RESOURCE_TOPIC, Resource::RD_KAFKA_RESOURCE_GROUP);
    let (literal, prefixed) =
        (Pattern::RD_KAFKA_RESOURCE_PATTERN_LITERAL, Pattern::RD_KAFKA_RESOURCE_PATTERN_PREFIXED);
    let (read, describe) =
        (Operation::RD_KAFKA_ACL_OPERATION_READ, Operation::RD_KAFKA_ACL_OPERATION_DESCRIBE);
    let mut made = Bindings(Vec::new());
    for right in rights {
        let (kind, name, pattern, operation) = match &right.may {
            May::ReadTopic(name) => (topic, name, literal, read),
            May::DescribeTopic(name) => (topic, name, literal, describe),
            May::ReadGroups(name) => (group, name, prefixed, read),
            May::Other(what) => {
                return Err(Error::new(
                    ErrorKind::Broken,
                    doing,
                    format!("`{what}` is not Hutong's to give"),
                ));
            }
        };
        let (name, principal) = (text(name, doing)?, text(&right.principal, doing)?);
        let one =
            make(kind, name.as_ptr(), pattern, principal.as_ptr(), c"*".as_ptr(), operation, &mut [0; 256]);
        made.0.push(one);
    }
    Bindings::of(std::mem::take(&mut made.0), doing)
}

/// Asks the cluster and waits for the answer.
fn ask(
    client: &Client,
    call: Call,
    doing: &str,
    send: impl FnOnce(*const c::rd_kafka_AdminOptions_t, *mut c::rd_kafka_queue_t),
) -> Result<Answer> {
    let patience = i32::try_from(TIMEOUT.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client lives as long as `client`; queue and options are freed when the answer has come, or will not,
    // for then the queue takes it along.
    let answer = unsafe {
        let queue = c::rd_kafka_queue_new(client.native());
        let options = c::rd_kafka_AdminOptions_new(client.native(), call);
        c::rd_kafka_AdminOptions_set_request_timeout(options, patience, null_mut(), 0);
        send(options, queue);
        // The client answers by itself when the cluster does not, a moment before.
        let answer = Answer(c::rd_kafka_queue_poll(queue, patience + 5_000));
        c::rd_kafka_AdminOptions_destroy(options);
        c::rd_kafka_queue_destroy(queue);
        answer
    };
    if answer.0.is_null() {
        return Err(Error::new(ErrorKind::Unavailable, doing, "there is no answer"));
    }
    // SAFETY: the event is there.
    match unsafe { c::rd_kafka_event_error(answer.0) } {
        c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(answer),
        code => Err(refused(code, doing)),
    }
}

fn refused(code: c::rd_kafka_resp_err_t, doing: &str) -> Error {
    let code = Code::from(code);
    let error = failed(doing, KafkaError::AdminOp(code));
    match code {
        Code::SecurityDisabled => Error { kind: ErrorKind::Config, ..error }.hint(
            "the cluster has no authorizer, so whoever reaches it reads everything: set authorizer.class.name, or take \
             `principal` out of [department]",
        ),
        Code::ClusterAuthorizationFailed => error.hint(
            "give Hutong's own principal ALTER and DESCRIBE on the cluster, for it gives and takes the subscribers' rights",
        ),
        _ => error,
    }
}

/// Returns the error that stands beside one of several answers.
///
/// # Safety
///
/// `error` is NULL or of an answer that lives.
unsafe fn well(error: *const c::rd_kafka_error_t, doing: &str) -> Result<()> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: as the caller says.
    match unsafe { c::rd_kafka_error_code(error) } {
        c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(refused(code, doing)),
    }
}

/// Reads a binding.
///
/// # Safety
///
/// `binding` is of an answer that lives.
unsafe fn may(binding: *const c::rd_kafka_AclBinding_t) -> May {
    // SAFETY: as the caller says; the names are constants of librdkafka, and what it does not know it calls UNKNOWN.
    unsafe {
        let word = |text: *const c_char| match text.is_null() {
            true => String::new(),
            false => CStr::from_ptr(text).to_string_lossy().into_owned(),
        };
        let name = word(c::rd_kafka_AclBinding_name(binding));
        let permission =
            word(c::rd_kafka_AclPermissionType_name(c::rd_kafka_AclBinding_permission_type(binding)));
        let operation = word(c::rd_kafka_AclOperation_name(c::rd_kafka_AclBinding_operation(binding)));
        let resource = word(c::rd_kafka_ResourceType_name(c::rd_kafka_AclBinding_restype(binding)));
        let pattern =
            word(c::rd_kafka_ResourcePatternType_name(c::rd_kafka_AclBinding_resource_pattern_type(binding)));
        let words = [&permission, &operation, &resource, &pattern].map(|word| word.to_ascii_uppercase());
        match words.each_ref().map(String::as_str) {
            ["ALLOW", "READ", "TOPIC", "LITERAL"] if name != "*" => May::ReadTopic(name),
            ["ALLOW", "DESCRIBE", "TOPIC", "LITERAL"] if name != "*" => May::DescribeTopic(name),
            ["ALLOW", "READ", "GROUP", "PREFIXED"] => May::ReadGroups(name),
            [permission, operation, resource, pattern] => {
                May::Other(format!("{permission} {operation} on {resource} {pattern} {name}"))
            }
        }
    }
}

fn text(text: &str, doing: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::new(ErrorKind::Config, doing, "a name holds a zero byte"))
}

fn words(verb: &str, rights: &[Right]) -> String {
    let rights: Vec<String> =
        rights.iter().map(|right| format!("{} {}", right.principal, right.may)).collect();
    format!("{verb} {}", rights.join(", "))
}
