// What no player is told: for how many turns a sleep, a confusion, a rampage goes on. The simulator draws it when the
// effect begins; in a fork it is drawn again, among the lengths that agree with the turns that have passed.
'use strict';

const FIELDS = ['time', 'duration', 'trueDuration'];
// The lengths that onStart draws from, all equally probable; those that a durationCallback draws are asked of it.
// Sleep by Rest is no draw. Gen 1 to 4 by number, `now` from gen 5 on.
const span = (first, last) => Array.from({ length: last - first + 1 }, (_, i) => first + i);
const LENGTHS = {
	slp: { field: 'time', 1: span(1, 7), 2: span(2, 7), 3: span(2, 5), 4: span(2, 5), now: span(2, 4) },
	confusion: { field: 'time', now: span(2, 5) },
	lockedmove: { field: 'trueDuration', now: span(2, 3) },
	bide: { field: 'time', 1: span(2, 3) },
	disable: { field: 'time', 1: span(1, 8) },
};
const GEN1_LOCKED_MOVE = { field: 'time', lengths: span(2, 3) };
const TRIES = 200;

// From now on, effects remember what they began with: `drawn`. By instance, for some formats bring their own methods.
function keepDraws(battle) {
	for (const side of battle.sides) {
		for (const pokemon of side.pokemon) {
			const { addVolatile, setStatus } = pokemon;
			pokemon.addVolatile = function (status, ...rest) {
				const result = addVolatile.call(this, status, ...rest);
				note(this.volatiles[battle.toID(status.id || status)]);
				return result;
			};
			pokemon.setStatus = function (status, source, sourceEffect, ...rest) {
				const result = setStatus.call(this, status, source, sourceEffect, ...rest);
				if ((sourceEffect || battle.effect)?.id === 'rest') this.statusState.drawn = {};
				else note(this.statusState);
				return result;
			};
		}
	}
}

function note(state) {
	if (!state || state.drawn) return;
	const drawn = {};
	for (const field of FIELDS) if (typeof state[field] === 'number') drawn[field] = state[field];
	state.drawn = drawn;
}

// Draws again, with the battle's own dice, all that goes on for an unknown time.
function redraw(battle) {
	for (const side of battle.sides) {
		for (const pokemon of side.pokemon) {
			for (const state of [pokemon.statusState, ...Object.values(pokemon.volatiles)]) redrawOne(battle, pokemon, state);
		}
	}
	// drawn at the end of the turn before
	if (battle.gen === 2) battle.quickClawRoll = battle.randomChance(60, 256);
	if (battle.gen === 3) battle.quickClawRoll = battle.randomChance(1, 5);
}

function redrawOne(battle, pokemon, state) {
	if (!state.drawn) return;
	const { field, draw } = drawing(battle, pokemon, state) || {};
	const began = field && state.drawn[field];
	if (!began || typeof state[field] !== 'number') return;
	const elapsed = began - state[field];
	for (let tries = 0; tries < TRIES; tries++) {
		const length = draw();
		if (length <= elapsed) continue;
		state[field] = length - elapsed;
		state.drawn[field] = length;
		if ('startTime' in state) state.startTime = length;
		if ('totalDuration' in state) state.totalDuration = length;
		return;
	}
}

function drawing(battle, pokemon, state) {
	const callback = battle.dex.conditions.get(state.id).durationCallback;
	if (callback) return { field: 'duration', draw: () => callback.call(battle, pokemon, state.source, state.sourceEffect) };
	const known = LENGTHS[state.id];
	if (!known) return null;
	const isGen1Lock = state.id === 'lockedmove' && battle.gen === 1;
	const { field, lengths } = isGen1Lock ? GEN1_LOCKED_MOVE : { field: known.field, lengths: known[battle.gen] || known.now };
	return lengths ? { field, draw: () => battle.sample(lengths) } : null;
}

module.exports = { keepDraws, redraw };
