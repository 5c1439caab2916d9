// A battle as the server's room keeps it: who is asked, who has answered, what each seat is told.
'use strict';

const path = require('path');
const { Battle } = require(path.resolve('dist/sim/battle.js'));
const { Dex } = require(path.resolve('dist/sim/dex.js'));
const { Teams } = require(path.resolve('dist/sim/teams.js'));
const { TeamValidator } = require(path.resolve('dist/sim/team-validator.js'));
const { keepDraws } = require('./counters.js');

const SEATS = ['p1', 'p2'];
const AVATAR = '1';
const KEPT_TEAMS = 4096;
const validated = new Map(); // format and team as they came -> the team as the validator leaves it

// Said to whoever asked, without a trace: not the simulator's fault.
class Refusal extends Error {
	refusal = true;
}

function requireFormat(name) {
	const format = Dex.formats.get(name);
	if (!format.exists || format.effectType !== 'Format') throw new Refusal(`there is no format ${JSON.stringify(name)}`);
	if (format.gameType !== 'singles') throw new Refusal(`${format.id} is no singles format (${format.gameType})`);
	return format;
}

// As the server does before a battle: the validator also mends what it may, and that is what plays.
function requireTeam(format, { name, team, seed }) {
	if (format.team) {
		if (team) throw new Refusal(`${format.id} gives out its teams, and ${name} brings one`);
		if (!seed) throw new Refusal(`${format.id} gives out its teams, and ${name} has no seed for one`);
		return { seed };
	}
	if (!team) throw new Refusal(`${format.id} wants teams, and ${name} brings none`);
	const key = `${format.id} ${team}`;
	if (!validated.has(key)) {
		const parsed = Teams.unpack(team);
		const problems = parsed ? TeamValidator.get(format).validateTeam(parsed) : ['This is not a team.'];
		if (problems?.length) throw new Refusal(`${name}'s team is not valid for ${format.id}: ${problems.join(' ')}`);
		if (validated.size >= KEPT_TEAMS) validated.clear();
		validated.set(key, Teams.pack(parsed));
	}
	return { team: validated.get(key) };
}

class Room {
	constructor(names) {
		this.names = names;
		this.battle = null;
		this.ended = null;
		this.isFork = false; // its inputs would not play it again
		this.lastRequest = 1;
		// `waits` as in the server's room: false where an answer is awaited, true where it was given and may be
		// changed, "cantUndo" where nothing is to be chosen
		this.asked = { p1: { rqid: 0, waits: 'cantUndo' }, p2: { rqid: 0, waits: 'cantUndo' } };
		this.told = { p1: [], p2: [] };
		this.send = (type, data) => this.hear(type, data);
	}

	static start(formatName, seed, players) {
		const format = requireFormat(formatName);
		if (players[0].name === players[1].name) throw new Refusal(`both players are called ${players[0].name}`);
		const teams = players.map(player => requireTeam(format, player));
		const room = new Room(players.map(player => player.name));
		room.open(format.id, seed, players.map(({ name }, i) => ({ name, avatar: AVATAR, ...teams[i] })));
		return room;
	}

	// The battle of an input log, as far as it goes.
	static replay(inputs) {
		const said = inputs.filter(line => !line.startsWith('>version'));
		const options = said.slice(0, 3).map(line => JSON.parse(line.slice(line.indexOf('{'))));
		const room = new Room([options[1].name, options[2].name]);
		room.open(options[0].formatid, options[0].seed, options.slice(1));
		for (const line of said.slice(3)) {
			const [verb, words] = [line.slice(1, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)];
			if (verb === 'forcelose') room.forfeit(words);
			else room.choose(verb, words);
		}
		return room;
	}

	open(formatid, seed, players) {
		const [first, second] = this.names;
		for (const seat of SEATS) {
			this.told[seat].push(`|init|battle\n|title|${first} vs. ${second}\n|j|☆${first}\n|j|☆${second}`);
		}
		this.battle = new Battle({ formatid, seed, send: this.send });
		SEATS.forEach((seat, i) => this.battle.setPlayer(seat, players[i]));
		keepDraws(this.battle);
		this.battle.sendUpdates();
	}

	// What the simulator says: `data` are lines of the log for everybody, or "p1\n|request|..." for one seat.
	hear(type, data) {
		if (type === 'update') {
			this.update(data);
		} else if (type === 'sideupdate') {
			const [seat, line] = data.split('\n');
			if (line.startsWith('|request|')) this.request(seat, line.slice(9));
			else this.refuse(seat, line);
		} else if (type === 'end') {
			const { winner, turn, inputLog, sides } = this.battle;
			const seat = sides.find(side => side.name === winner)?.id || null;
			this.ended = { winner: seat, turns: turn, inputs: this.isFork ? [] : inputLog };
		}
	}

	// Lines of the log; after "|split|p1", one for that seat and one, perhaps empty, for everybody else.
	update(log) {
		const lines = { p1: [], p2: [] };
		for (let i = 0; i < log.length; i++) {
			const split = log[i].startsWith('|split|') && log[i].slice(7);
			for (const seat of SEATS) {
				let line = split ? log[seat === split ? i + 1 : i + 2] : log[i];
				if (line.startsWith('|t:|')) line = '|t:|0'; // the clock is the only thing in a log that no seed decides
				if (line) lines[seat].push(line);
			}
			if (split) i += 2;
		}
		for (const seat of SEATS) this.told[seat].push(lines[seat].join('\n'));
	}

	request(seat, json) {
		this.lastRequest++;
		const waits = json.startsWith('{"wait":true') ? 'cantUndo' : false;
		this.asked[seat] = { rqid: this.lastRequest, waits };
		this.told[seat].push(`|request|${json.slice(0, -1)},"rqid":${this.lastRequest}}`);
	}

	refuse(seat, line) {
		if (line.startsWith('|error|[Invalid choice]') && !line.includes("Can't do anything")) {
			this.asked[seat].waits = line.includes("Can't undo") ? 'cantUndo' : false;
		}
		this.told[seat].push(line);
	}

	// A player's message. Raises for what is none that a battle takes.
	receive(seat, message) {
		const [, verb, words] = /^\/(choose|team|forfeit)(?: (.*))?$/s.exec(message) || [];
		if (verb === 'forfeit') this.forfeit(seat);
		else if (verb && words) this.answer(seat, verb === 'team' ? `team ${words}` : words);
		else this.told[seat].push(`|error|[Invalid choice] ${JSON.stringify(message)} is no choice`);
	}

	answer(seat, words) {
		const [choice, rqid] = words.split('|', 2);
		const asked = this.asked[seat];
		if (asked.waits === 'cantUndo') {
			this.told[seat].push(`|error|[Invalid choice] There's nothing to choose`);
		} else if (rqid && rqid !== `${asked.rqid}`) {
			const late = 'Sorry, too late to make a different move; the next turn has already started';
			this.told[seat].push(`|error|[Invalid choice] ${late}`);
		} else {
			asked.waits = true;
			this.choose(seat, choice);
		}
	}

	choose(seat, choice) {
		this.battle.choose(seat, choice);
		this.battle.sendUpdates();
	}

	forfeit(seat) {
		if (this.battle.ended) return;
		const name = this.names[SEATS.indexOf(seat)];
		for (const each of SEATS) this.told[each].push(`|-message|${name} forfeited.`);
		this.battle.lose(seat);
		this.battle.inputLog.push(`>forcelose ${seat}`);
		this.battle.sendUpdates();
	}

	// What the seats were told since the last time.
	take() {
		const told = this.told;
		this.told = { p1: [], p2: [] };
		return told;
	}

	close() {
		this.battle?.destroy();
	}
}

module.exports = { Room, Refusal, SEATS };
