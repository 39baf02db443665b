//! Interfaces, addresses and neighbours, by rtnetlink.
//!
//! The messages are those of the `rtnetlink` crate; they are sent and answered one at a time, without a runtime: a
//! socket speaks for the network namespace in which it was made, whichever thread uses it later.
use nix::errno::Errno;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rtnetlink::{AddressMessageBuilder, LinkMessageBuilder, LinkUnspec, LinkVeth};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

/// A six-byte Ethernet address.
pub(super) type Mac = [u8; 6];

/// Speaks for the namespace in which it was opened.
pub(super) struct Netlink {
    socket: Socket,
    serial: u32,
}

impl Netlink {
    /// For the calling thread's network namespace.
    pub fn open() -> io::Result<Netlink> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Netlink { socket, serial: 0 })
    }

    /// A veth pair: `near` here, `far` with its address in the namespace of `there`.
    pub fn add_veth(&mut self, near: &str, far: &str, mac: Mac, there: &OwnedFd) -> io::Result<()> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(far)
            .address(mac.to_vec())
            .setns_by_fd(there.as_raw_fd())
            .build();
        let pair = LinkVeth::new(near, far)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        self.ask(RouteNetlinkMessage::NewLink(pair), NLM_F_CREATE | NLM_F_EXCL)
            .map(drop)
    }

    /// The index of the interface called `name`.
    pub fn index(&mut self, name: &str) -> io::Result<u32> {
        let message = LinkUnspec::new_with_name(name).build();
        let answer = self.ask(RouteNetlinkMessage::GetLink(message), 0)?;
        answer
            .map(|link| link.header.index)
            .ok_or_else(|| io::Error::other(format!("no answer about interface {name}")))
    }

    /// Brings an interface up.
    pub fn up(&mut self, index: u32) -> io::Result<()> {
        let message = LinkUnspec::new_with_index(index).up().build();
        self.ask(RouteNetlinkMessage::SetLink(message), 0).map(drop)
    }

    /// Gives an interface an address.
    pub fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let message = AddressMessageBuilder::<Ipv4Addr>::new()
            .index(index)
            .address(address, prefix)
            .build();
        self.ask(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
            .map(drop)
    }

    /// Says for ever which Ethernet address `address` has, so that no ARP is needed.
    pub fn add_neighbour(&mut self, index: u32, address: Ipv4Addr, mac: Mac) -> io::Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message.attributes = vec![
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)),
            NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
        ];
        self.ask(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
            .map(drop)
    }

    /// Sends one request and takes its answer: the link that it told of, if any, once the kernel acknowledged.
    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Option<LinkMessage>> {
        self.serial += 1;
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        request.header.sequence_number = self.serial;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut link = None;
        loop {
            let (packet, _) = self.socket.recv_from_full()?;
            let mut rest = &packet[..];
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(|e| io::Error::other(format!("netlink answer: {e}")))?;
                // Messages are aligned to four bytes; the length must make progress, or a bad one would loop for ever.
                let length = (answer.header.length as usize).next_multiple_of(4).max(16);
                rest = rest.get(length..).unwrap_or_default();
                match answer.payload {
                    NetlinkPayload::Error(error) if error.raw_code() == 0 => return Ok(link),
                    NetlinkPayload::Error(error) => {
                        return Err(io::Error::from(Errno::from_raw(-error.raw_code())));
                    }
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(told)) => link = Some(told),
                    _ => {}
                }
            }
        }
    }
}
