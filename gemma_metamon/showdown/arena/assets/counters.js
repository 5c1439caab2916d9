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
const GEN1_WRAPS = [2, 2, 2, 3, 3, 3, 4, 5];
const TRIES = 200;
// What an item of the user prolongs from 5 turns to 8.
const LONG = 8;
const PROLONGED_BY = {
	reflect: 'lightclay', lightscreen: 'lightclay', auroraveil: 'lightclay', raindance: 'damprock', sunnyday: 'heatrock',
	sandstorm: 'smoothrock', hail: 'icyrock', snowscape: 'icyrock', electricterrain: 'terrainextender',
	grassyterrain: 'terrainextender', mistyterrain: 'terrainextender', psychicterrain: 'terrainextender',
};

// From now on, effects remember what they began with: `drawn`; and the last hit is known as it was shown. By instance,
// for some formats bring their own methods.
function keepDraws(battle) {
	const { field } = battle;
	for (const [owner, method, find] of [
		[field, 'setWeather', () => field.weatherState], [field, 'setTerrain', () => field.terrainState],
		...battle.sides.map(side => [side, 'addSideCondition', id => side.sideConditions[id]]),
	]) {
		const original = owner[method];
		owner[method] = function (status, ...rest) {
			const result = original.call(this, status, ...rest);
			note(find(battle.toID(status.id || status)));
			return result;
		};
	}
	for (const side of battle.sides) {
		for (const pokemon of side.pokemon) {
			const { addVolatile, setStatus, damage } = pokemon;
			pokemon.damage = function (...args) {
				const before = shownHP(this);
				const exact = damage.apply(this, args);
				const shown = before - shownHP(this);
				battle.lastHit = { side: side.n, shown, exact };
				const { bide } = this.volatiles;
				if (bide) bide.shown = (bide.shown || 0) + shown;
				return exact;
			};
			pokemon.addVolatile = function (status, ...rest) {
				const result = addVolatile.call(this, status, ...rest);
				const state = this.volatiles[battle.toID(status.id || status)];
				note(state);
				if (battle.gen === 1) noteWrap(battle, this, state);
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

// The part of a Pokémon's HP that both seats are shown.
function shownHP(pokemon) {
	const [left, whole] = pokemon.getHealth().shared.split('/').map(parseFloat);
	return whole ? left / whole : 0;
}

function note(state) {
	if (!state || state.drawn) return;
	const drawn = {};
	for (const field of FIELDS) if (typeof state[field] === 'number') drawn[field] = state[field];
	state.drawn = drawn;
}

function noteWrap(battle, pokemon, state) {
	const lock = pokemon.volatiles.partialtrappinglock;
	if (!lock) return;
	lock.shown ??= battle.lastHit?.shown;
	if (state?.id !== 'fakepartiallytrapped') return;
	const { totalDuration: wraps, move, damage, shown, locked } = lock;
	Object.assign(state, { wraps, move, damage, shown, locked });
}

// Draws again, with the battle's own dice, all that goes on for an unknown time. `sampled` is the side whose items are
// a sample (0 or 1), or null.
function redraw(battle, sampled) {
	if (battle.gen === 1) redrawWraps(battle);
	const { weatherState, terrainState } = battle.field;
	for (const state of [weatherState, terrainState, ...battle.sides.flatMap(side => Object.values(side.sideConditions))]) {
		if (sampled !== null && state.source?.side?.n === sampled) prolong(state);
	}
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
		setLength(state, field, length, elapsed);
		return;
	}
	setLength(state, field, elapsed + 1, elapsed); // what prolonged it is not in the sample
}

function setLength(state, field, length, elapsed) {
	state[field] = length - elapsed;
	state.drawn[field] = length;
	if ('startTime' in state) state.startTime = length;
	if ('totalDuration' in state) state.totalDuration = length;
}

// Lasts as long as the sampled item of its source makes it, or longer where it has lasted longer already.
function prolong(state) {
	const item = PROLONGED_BY[state.id];
	const began = item && state.drawn?.duration;
	if (!began) return;
	const elapsed = began - state.duration;
	const usual = began === LONG ? LONG - 3 : began;
	const length = state.source.set.item && PROLONGED_BY[state.id] === state.source.battle.toID(state.source.set.item) ? LONG : usual;
	setLength(state, 'duration', length > elapsed ? length : LONG, elapsed);
}

// In gen 1 a Wrap that has ended looks like one that goes on, until somebody tries to move: which it is, is drawn again.
function redrawWraps(battle) {
	for (const { active: [user], foe: { active: [target] } } of battle.sides) {
		if (!user?.isActive || !target?.isActive) continue;
		const { partialtrappinglock: lock, fakepartiallytrapped: ended } = user.volatiles;
		const wrap = lock ? { ...lock, wraps: lock.totalDuration - lock.duration } : ended;
		if (!(wrap?.wraps > 1) || wrap.locked !== target) continue;
		let length = 0;
		while (length < wrap.wraps) length = battle.sample(GEN1_WRAPS);
		for (const { volatiles } of [user, target]) delete volatiles.fakepartiallytrapped;
		delete user.volatiles.partialtrappinglock;
		delete target.volatiles.partiallytrapped;
		const { wraps, move, damage, shown } = wrap;
		const state = { move, damage, shown, locked: target };
		if (length === wraps && length < 5) {
			add(battle, user, 'fakepartiallytrapped', { ...state, wraps, duration: 1, counterpart: target });
			add(battle, target, 'fakepartiallytrapped', { duration: 1, counterpart: user });
		} else {
			if (length === wraps) length = wraps + 1;
			add(battle, user, 'partialtrappinglock', { ...state, duration: length - wraps, totalDuration: length, drawn: { duration: length } });
			const sourceEffect = battle.dex.moves.get(move);
			add(battle, target, 'partiallytrapped', { source: user, sourceEffect, duration: 1, maybeLocked: true, drawn: { duration: 2 } });
		}
	}
}

function add(battle, pokemon, id, fields) {
	pokemon.volatiles[id] = battle.initEffectState({ id, name: id, target: pokemon, ...fields });
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
