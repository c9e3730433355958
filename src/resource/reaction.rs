//! `on-change`: what is done to a unit or container when a file changes.

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::Problem;
use crate::resource::Action;
use crate::resource::lowering::Lowering;
use crate::resource::value;

/// One reaction as a stack describes it.
#[derive(Debug, Clone)]
pub enum OnChange {
    /// `reload="nginx"`
    Reload(Text),
    /// `restart="app"`
    Restart(Text),
    /// `signal="HUP" unit="app"`
    Signal(Text, Text),
    /// `container="web" project="app"`, with `signal` or to be restarted.
    Container {
        /// The service.
        service: Text,
        /// The Compose project.
        project: Text,
        /// The signal.
        signal: Option<Text>,
    },
}

impl OnChange {
    /// Reads one `on-change` node.
    pub fn decode(mut reader: Reader<'_>) -> Option<Self> {
        let (reload, restart) = (reader.value("reload"), reader.value("restart"));
        let (signal, unit) = (reader.value("signal"), reader.value("unit"));
        let (container, compose) = (reader.value("container"), reader.value("compose"));
        let given = match (reload, restart, signal, unit, container, compose) {
            (Some(unit), None, None, None, None, None) => Some(OnChange::Reload(unit)),
            (None, Some(unit), None, None, None, None) => Some(OnChange::Restart(unit)),
            (None, None, Some(signal), Some(unit), None, None) => Some(OnChange::Signal(signal, unit)),
            (None, None, signal, None, Some(service), Some(project)) => {
                Some(OnChange::Container { service, project, signal })
            }
            _ => {
                let problem = Problem::error("`on-change` does not say one clear thing to do");
                reader.report(problem.at(&reader.span(), "here").hint(
                    "write one of `reload=\"unit\"`, `restart=\"unit\"`, `signal=\"HUP\" unit=\"unit\"`, \
                     `container=\"service\" compose=\"project\"` (with `signal` if it is not to be restarted)",
                ));
                None
            }
        };
        reader.finish();
        given
    }

    /// The action on one host.
    pub fn lower(&self, on: &Lowering<'_>) -> Option<Action> {
        Some(match self {
            OnChange::Reload(unit) => Action::Reload(value::unit_name(on, unit)?),
            OnChange::Restart(unit) => Action::Restart(value::unit_name(on, unit)?),
            OnChange::Signal(signal, unit) => {
                Action::Signal { unit: value::unit_name(on, unit)?, signal: value::signal(on, signal)? }
            }
            OnChange::Container { service, project, signal } => Action::Container {
                project: value::compose_name(on, project)?,
                service: value::service_name(on, service)?,
                signal: match signal {
                    Some(signal) => Some(value::signal(on, signal)?),
                    None => None,
                },
            },
        })
    }
}
