// A copy of a battle at a decision, that can be played on: what one seat may know of it, and fresh dice.
'use strict';

const path = require('path');
const { State } = require(path.resolve('dist/sim/state.js'));
const { Room, SEATS, Refusal } = require('./room.js');
const { keepDraws, redraw } = require('./counters.js');
const { seenState } = require('./seen_state.js');
const { rebuild } = require('./rebuilding.js');

const TRUTH = 'truth';

// `hidden` is the other side's team as somebody takes it to be: a list of {packed, ident, condition, item, ability,
// uses} (see hidden.py), the one on the field first; or TRUTH. Raises Refusal for a battle that is over and for a team
// that is not the one that was seen. Neither seat's answer to the present request is in the fork, nor what the other
// seat has chosen for the rest of this turn, nor the input log: it would tell both.
function fork(source, seat, seed, hidden) {
	const battle = battleAs(source, seat, seed, hidden);
	const room = new Room(source.names);
	battle.restart(room.send);
	keepDraws(battle);
	room.battle = battle;
	room.isFork = true;
	room.lastRequest = source.asked[seat].rqid; // the last one that this seat was told
	for (const side of battle.sides) side.emitRequest();
	return room;
}

// The battle of a fork, of which nobody is told yet. Raises as `fork`.
function battleAs(source, seat, seed, hidden) {
	if (!SEATS.includes(seat)) throw new Refusal(`there is no seat ${JSON.stringify(seat)}`);
	if (source.ended || source.battle.ended) throw new Refusal('a battle that is over cannot be forked');
	const mine = SEATS.indexOf(seat);
	const battle = hidden === TRUTH ? copy(source.battle, seed) : sampled(source.battle, mine, seed, hidden);
	battle.log = [];
	battle.inputLog = [];
	battle.messageLog = [];
	battle.sentLogPos = 0;
	battle.lastMoveLine = -1;
	battle.sentRequests = true;
	redraw(battle, hidden === TRUTH ? null : 1 - mine);
	forgetChoices(battle, battle.sides[1 - mine]);
	// what was refused to this seat before ("Unavailable choice") it knows already
	ask(battle, mine, JSON.parse(JSON.stringify(source.battle.sides[mine].activeRequest)));
	return battle;
}

// The simulator's own copy, of everything but the log: that is shared by reference, and counts towards its limit of
// lines between two updates.
function copy(battle, seed) {
	const { log, ...state } = State.serializeBattle(battle);
	return State.deserializeBattle(JSON.parse(JSON.stringify({ ...state, prng: seed, log: [] })));
}

// With another team in the place of the other side's, and of all else what the seat `mine` (0 or 1) was told.
function sampled(truth, mine, seed, hidden) {
	const { state, ...seen } = seenState(truth, mine, seed, hidden);
	const battle = State.deserializeBattle(state);
	rebuild(battle, 1 - mine, seen, hidden);
	return battle;
}

// In the middle of a turn (somebody left after a move, or fainted), a side's move may still be to come: any of those
// that it could have chosen.
function forgetChoices(battle, side) {
	for (const [i, action] of battle.queue.list.entries()) {
		if (action.choice !== 'move' || action.pokemon.side !== side) continue;
		const locked = action.pokemon.getLockedMove();
		const moves = action.pokemon.getMoves().filter(move => !move.disabled && move.pp !== 0);
		const moveid = locked || (moves.length ? battle.sample(moves).id : 'struggle');
		const choice = { choice: 'move', pokemon: action.pokemon, moveid, targetLoc: 0 };
		battle.queue.list[i] = battle.queue.resolveAction(choice, true)[0];
	}
	battle.queue.sort();
}

// Asks both seats as at the end of the last turn. What keeps a Pokémon from leaving or from using a move may be the
// other side's secret, so that it is found again, from the sides as they stand in the fork.
function ask(battle, mine, told) {
	for (const side of battle.sides) {
		const pokemon = side.active[0];
		if (!pokemon?.isActive) continue;
		findDisabled(battle, pokemon);
		Object.assign(pokemon, { trapped: false, maybeTrapped: false });
		if (battle.requestState === 'move') battle.runEvent('TrapPokemon', pokemon);
	}
	battle.updateSpeed();
	const requests = battle.getRequests(battle.requestState);
	battle.sides.forEach((side, i) => {
		side.activeRequest = i === mine ? told : requests[i];
		side.clearChoice();
	});
	const [own] = told?.active || [];
	const pokemon = battle.sides[mine].active[0];
	if (own?.trapped) pokemon.trapped = true;
	if (own?.maybeTrapped) pokemon.maybeTrapped = true;
	for (const { id, disabled } of own?.moves || []) if (disabled) pokemon.disableMove(id);
}

function findDisabled(battle, pokemon) {
	const slots = pokemon.moveSlots;
	slots.forEach(slot => Object.assign(slot, { disabled: false, disabledSource: '' }));
	Object.assign(pokemon, { maybeDisabled: false, maybeLocked: false });
	battle.runEvent('DisableMove', pokemon);
	for (const { id } of slots) {
		const move = battle.dex.getActiveMove(id);
		battle.singleEvent('DisableMove', move, null, pokemon);
		if (id === pokemon.lastMove?.id && move.flags['cantusetwice']) pokemon.disableMove(id);
	}
}

module.exports = { fork, battleAs };
