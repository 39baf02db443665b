//! Shapes at the sender: [`super::netem`]'s commands, run, with the state that they leave.
use super::netem::{self, Device};
use super::run::run;
use splitbrain_core::{Name, Shape};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What goes out in a shape.
#[derive(Default)]
pub struct Egress {
    /// By peer, the interface that leads to it and its shape.
    shapes: BTreeMap<Name, (String, Shape)>,
    devices: BTreeMap<String, Device>,
}

impl Egress {
    /// Gives what goes to these peers a shape. The error names the interface; what was set before on others stays.
    pub fn shape(&mut self, peers: &BTreeMap<Name, Vec<IpAddr>>, names: &[Name], shape: Shape) -> Result<(), String> {
        let mut wanted = self.shapes.clone();
        if shape == Shape::default() {
            wanted.retain(|name, _| !names.contains(name));
        } else {
            let firsts: Vec<IpAddr> = names.iter().map(|name| peers[name][0]).collect();
            let devices = netem::devices(&run(&netem::routes(&firsts))?);
            if devices.len() != names.len() || devices.iter().any(|device| device.is_empty() || device == "lo") {
                return Err(format!(
                    "find the interfaces that lead to {firsts:?}: `ip route get` says {devices:?}"
                ));
            }
            let ways = names.iter().zip(devices);
            wanted.extend(ways.map(|(name, device)| (*name, (device, shape))));
        }
        let touched = self
            .shapes
            .values()
            .chain(wanted.values())
            .map(|(device, _)| device.clone());
        for device in touched.collect::<BTreeSet<_>>() {
            self.set(&device, peers, &wanted)?;
        }
        Ok(())
    }

    fn set(
        &mut self,
        device: &str,
        peers: &BTreeMap<Name, Vec<IpAddr>>,
        wanted: &BTreeMap<Name, (String, Shape)>,
    ) -> Result<(), String> {
        let here = |(_, (own, _)): &(&Name, &(String, Shape))| own == device;
        let shapes: BTreeMap<_, _> = wanted
            .iter()
            .filter(here)
            .map(|(name, (_, shape))| (*name, (peers[name].clone(), *shape)))
            .collect();
        let before = self.devices.entry(device.to_string()).or_default();
        let (after, command) = netem::change(device, before, &shapes)?;
        if let Some(command) = command {
            if before.is_untouched() {
                check_default(device)?;
            }
            run(&command).map_err(explain).inspect_err(|_| {
                // Half of ours would be worse than none; the first failure says why.
                let undo = netem::change(device, &after, &BTreeMap::new());
                if let (true, Ok((_, Some(undo)))) = (before.is_untouched(), undo) {
                    let _ = run(&undo);
                }
            })?;
        }
        *before = after;
        self.shapes.retain(|_, (own, _)| own != device);
        let set = wanted.iter().filter(here);
        self.shapes.extend(set.map(|(name, way)| (*name, way.clone())));
        Ok(())
    }
}

fn explain(why: String) -> String {
    match why.contains("cannot mix duplicating") {
        true => {
            format!("{why}: this kernel takes no other shape beside one that duplicates: give all peers the same one")
        }
        false => why,
    }
}

fn check_default(device: &str) -> Result<(), String> {
    match netem::chosen(&run(&netem::list_of(device))?) {
        None => Ok(()),
        Some(root) => Err(format!(
            "interface {device} has the root qdisc {root}, which is not ours to replace: remove it (tc qdisc del dev {device} \
             root) or use another interface"
        )),
    }
}
