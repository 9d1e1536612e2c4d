//! The runtime's events: which containers started or ended, as it happens.
use cri::containerd::events::{Envelope, Payload, PublishRequest, SubscribeRequest, TaskEvent};
use cri::containerd::{Containerd, request};
use cri::v1::ContainerEventType;
use cri::{CriError, Runtime};
use prost::Message;
use std::path::Path;
use std::time::Duration;

/// A container (or sandbox) whose state changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeEvent {
    /// A container's or sandbox's id.
    pub container: String,
    /// It ended: the runtime shows it as running for some milliseconds more.
    pub ended: bool,
}

/// A stream of events: CRI's where the runtime has it, else containerd's own.
pub enum RuntimeEvents {
    Cri(tonic::Streaming<cri::v1::ContainerEventResponse>),
    Containerd(tonic::Streaming<Envelope>),
}

const TOPICS: [&str; 4] = ["/tasks/start", "/tasks/exit", "/tasks/delete", "/tasks/oom"];
/// Our own topic, published to see the subscription work.
const HELLO: &str = "/k8shost/hello";

impl RuntimeEvents {
    /// Subscribes. Events are those after this returns.
    ///
    /// # Errors
    /// `is_unimplemented` if the runtime has neither kind of events.
    pub async fn subscribe(runtime: &Runtime, socket: &Path) -> Result<Self, CriError> {
        let containerd = Containerd::connect(socket).await?;
        let filter = |topic: &str| format!("namespace==\"{}\",topic==\"{topic}\"", cri::containerd::NAMESPACE);
        let filters = TOPICS.iter().copied().chain([HELLO]).map(filter).collect();
        let mut client = containerd.events();
        let subscription = client.subscribe(request(SubscribeRequest { filters }, None));
        tokio::pin!(subscription);
        // The server says nothing, not even that it listens, until the first event: so we send one.
        loop {
            tokio::select! {
                answer = &mut subscription => return match answer {
                    Ok(stream) => Ok(Self::Containerd(stream.into_inner())),
                    Err(status) if status.code() == tonic::Code::Unimplemented => Ok(Self::Cri(runtime.container_events().await?)),
                    Err(status) => Err(status.into()),
                },
                () = tokio::time::sleep(Duration::from_millis(5)) => {
                    let event = Some(Payload { type_url: "k8shost/hello".into(), value: Vec::new() });
                    // Should it fail, so does the subscription, which says why.
                    let _ = containerd.events().publish(request(PublishRequest { topic: HELLO.into(), event }, None)).await;
                }
            }
        }
    }

    /// The next event; `None` once the runtime is gone.
    pub async fn next(&mut self) -> Option<RuntimeEvent> {
        loop {
            let event = match self {
                Self::Cri(stream) => stream.message().await.ok().flatten().map(|event| {
                    let ended = event.container_event_type() == ContainerEventType::ContainerStoppedEvent;
                    Some(RuntimeEvent { container: event.container_id, ended })
                })?,
                Self::Containerd(stream) => of_envelope(stream.message().await.ok().flatten()?),
            };
            if event.is_some() {
                return event;
            }
        }
    }
}

fn of_envelope(envelope: Envelope) -> Option<RuntimeEvent> {
    if !TOPICS.contains(&envelope.topic.as_str()) {
        return None;
    }
    let ended = matches!(envelope.topic.as_str(), "/tasks/exit" | "/tasks/delete");
    let task = TaskEvent::decode(envelope.event?.value.as_slice()).ok()?;
    Some(RuntimeEvent { container: task.container_id, ended })
}
