// A copy of a battle at a decision, that can be played on: what one seat may know of it, and fresh dice.
'use strict';

const path = require('path');
const { PRNG } = require(path.resolve('dist/sim/prng.js'));
const { State } = require(path.resolve('dist/sim/state.js'));
const { Room, SEATS, Refusal } = require('./room.js');
const { keepDraws, redraw } = require('./counters.js');

// Raises Refusal for a battle that is over. Neither seat's answer to the present request is in the fork, nor what the
// other seat has chosen for the rest of this turn.
function fork(source, seat, seed) {
	if (!SEATS.includes(seat)) throw new Refusal(`there is no seat ${JSON.stringify(seat)}`);
	if (source.ended || source.battle.ended) throw new Refusal('a battle that is over cannot be forked');
	const room = new Room(source.names);
	const battle = copy(source.battle);
	battle.restart(room.send);
	battle.prng = new PRNG(seed);
	battle.inputLog.push(`>fork ${JSON.stringify({ seat, seed })}`);
	keepDraws(battle);
	redraw(battle);
	battle.sides.forEach((side, i) => {
		side.clearChoice();
		if (side.id !== seat) forgetChoices(battle, side);
		// what was refused to this seat before ("Unavailable choice") it knows already
		else side.activeRequest = JSON.parse(JSON.stringify(source.battle.sides[i].activeRequest));
	});
	room.battle = battle;
	room.lastRequest = source.lastRequest;
	for (const side of battle.sides) side.emitRequest();
	return room;
}

// The simulator's own copy, of everything but the log: that is shared by reference, and counts towards its limit of
// lines between two updates.
function copy(battle) {
	const { log, ...state } = State.serializeBattle(battle);
	const next = State.deserializeBattle(JSON.parse(JSON.stringify({ ...state, log: [] })));
	next.sentLogPos = 0;
	next.lastMoveLine = -1;
	next.sentRequests = true;
	return next;
}

// In the middle of a turn (somebody left after a move, or fainted), a side's move may still be to come: any of those
// that it could have chosen.
function forgetChoices(battle, side) {
	for (const [i, action] of battle.queue.list.entries()) {
		if (action.choice !== 'move' || action.pokemon.side !== side) continue;
		const moves = action.pokemon.getMoves().filter(move => !move.disabled && move.pp !== 0);
		if (!moves.length || action.pokemon.getLockedMove()) continue;
		const choice = { choice: 'move', pokemon: action.pokemon, moveid: battle.sample(moves).id, targetLoc: 0 };
		battle.queue.list[i] = battle.queue.resolveAction(choice, true)[0];
	}
	battle.queue.sort();
}

module.exports = { fork };
