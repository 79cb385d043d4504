//! The ways between instances, the store and workers.

use std::collections::VecDeque;
use std::time::Duration;

use holepunch_matchmaker::{ConnectionId, Input, InstanceId, Packet, Reply, Request};
use holepunch_wire::signal::FromWorker;
use holepunch_wire::signal::v1::WorkerV1;

use super::world::{Happening, World};

impl World {
    pub(super) fn input(&mut self, number: usize, input: Input<'_>) {
        self.instances[number].machine.handle_input(input, self.now);
        self.drain(number);
    }

    /// A frame comes, and waits its turn.
    pub(super) fn frame(&mut self, number: usize, connection: ConnectionId, text: String) {
        self.instances[number].held.entry(connection).or_default().push_back(text);
        self.drain(number);
    }

    fn read(&mut self, number: usize, connection: ConnectionId, text: &str) {
        if let Ok(message) = FromWorker::parse(text) {
            // Who signs is not simulated: whoever claims a key here has it.
            let proved = if let FromWorker::V1(Ok(WorkerV1::Hello { key, .. })) = &message {
                *key
            } else {
                None
            };
            self.input(number, Input::Message { connection, message, proved });
        }
    }

    /// What an instance has to say goes its ways.
    pub(super) fn drain(&mut self, number: usize) {
        let way = Duration::from_millis(5);
        while let Some(transmit) = self.instances[number].machine.poll_transmit() {
            let (connection, action) = (transmit.connection, transmit.action);
            self.after(way, Happening::Action(number, connection, action));
        }
        let own = self.instances[number].machine.instance();
        while let Some((to, packet)) = self.instances[number].machine.poll_packet() {
            let is_lost = self.chance.is(self.faults.lost);
            let copies =
                if is_lost { 0 } else { 1 + u64::from(self.chance.is(self.faults.doubled)) };
            for _ in 0..copies {
                let late = self.chance.ms(1, 60);
                self.after(late, Happening::Packet(own, to, packet.clone()));
            }
        }
        while let Some((id, request)) = self.instances[number].machine.poll_request() {
            let late = self.chance.ms(1, 10);
            self.after(late, Happening::Request(number, own, id, Box::new(request)));
        }
        while self.instances[number].machine.poll_event().is_some() {}
        let instance = &mut self.instances[number];
        let is_free = |id: &ConnectionId| !instance.machine.is_busy(*id);
        let mut held = instance.held.iter().filter(|(_, held)| !held.is_empty());
        let free = held.find(|(id, _)| is_free(id)).map(|(id, _)| *id);
        if let Some(connection) = free
            && let Some(text) = instance.held.get_mut(&connection).and_then(VecDeque::pop_front)
        {
            self.read(number, connection, &text);
        }
    }

    pub(super) fn request(
        &mut self,
        number: usize,
        (instance, id): (InstanceId, u64),
        request: Request,
    ) {
        if self.faults.store_is_away {
            return;
        }
        let reply = self.store.answer(instance, request, &self.config, self.now);
        let late = self.chance.ms(1, 10);
        self.after(late, Happening::Reply(number, instance, id, reply));
    }

    pub(super) fn reply(&mut self, number: usize, (to, id): (InstanceId, u64), reply: Reply) {
        let machine = &mut self.instances[number].machine;
        // One that has been born anew has asked for nothing.
        if machine.instance().process() == to.process() {
            machine.handle_reply(id, reply, self.now);
            self.drain(number);
        }
    }

    pub(super) fn packet(&mut self, from: InstanceId, to: InstanceId, packet: Packet) {
        let found = self.instances.iter().position(|it| it.machine.instance() == to);
        let sender = from.process() as usize % self.setting.instances;
        let Some(number) = found.filter(|number| !self.faults.are_cut(*number, sender)) else {
            return;
        };
        if !self.faults.stands_still(number) {
            self.instances[number].machine.handle_packet(from, packet, self.now);
            self.drain(number);
        } else if !self.chance.is(50) {
            self.instances[number].backlog.push_back(Happening::Packet(from, to, packet));
        }
    }
}
