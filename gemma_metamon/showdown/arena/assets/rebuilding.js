// The other side of a fork, from the sampled sets: what follows from them and from what the seat was told. The sides
// stand as seen_state.js has them; here the Pokémon get the HP, moves, items, abilities and stats that fit.
'use strict';

const { staged } = require('./seen_state.js');

// `other` is 0 or 1; `carried` (of seen_state.js) and `hidden` are parallel to its Pokémon; `lastHit` is the last that
// somebody lost, {side, shown, exact}.
function rebuild(battle, other, { carried, lastHit }, hidden) {
	const side = battle.sides[other], own = battle.sides[1 - other];
	for (const [i, pokemon] of side.pokemon.entries()) {
		const seen = carried[i] || {};
		setForme(battle, pokemon, seen);
		setHP(battle, pokemon, hidden[i].condition);
		useMoves(pokemon, hidden[i].uses);
		setHeld(pokemon, hidden[i], seen);
		if (seen.isActive) setActive(battle, pokemon, seen, hidden[i], lastHit);
	}
	spend(battle, side);
	// an Illusion that fell was taken for another: somebody of the side has fainted
	const lacking = side.totalFainted - side.pokemon.filter(pokemon => pokemon.fainted).length;
	const unseen = side.pokemon.filter((pokemon, i) => !pokemon.fainted && !pokemon.isActive && !hidden[i].ident);
	for (const pokemon of lacking > 0 ? unseen.slice(-lacking) : []) Object.assign(pokemon, { hp: 0, fainted: true });
	side.pokemonLeft = side.pokemon.filter(pokemon => !pokemon.fainted).length;
	if (battle.gen === 1) setSelected(side, own);
	for (const pokemon of own.active) if (pokemon) setOwn(battle, pokemon, side.active[0]);
	for (const each of battle.sides) setSlots(battle, each, other);
	// of its own Pokémon the seat knows what a hit took; of others, what was shown
	if (lastHit) battle.lastDamage = lastHit.side === other ? toHP(side.active[0], lastHit.shown) : lastHit.exact;
	battle.updateSpeed();
	const actives = battle.getAllActive();
	battle.speedSort(actives);
	battle.speedOrder = actives.map(pokemon => pokemon.getFieldPositionValue());
}

function setForme(battle, pokemon, { baseSpecies, species }) {
	if (!baseSpecies) return;
	const [base, now] = [baseSpecies, species].map(id => battle.dex.species.get(id));
	const shown = pokemon.getUpdatedDetails();
	if (base.id !== pokemon.baseSpecies.id) {
		const before = pokemon.species;
		pokemon.species = base;
		if (pokemon.getUpdatedDetails() === shown) { // formes that nobody can tell apart
			pokemon.species = before;
		} else {
			pokemon.baseSpecies = base;
			pokemon.setSpecies(base);
			pokemon.baseAbility = pokemon.ability = battle.toID(base.abilities['0']) || pokemon.ability;
			pokemon.details = pokemon.getUpdatedDetails();
			pokemon.baseMaxhp = pokemon.maxhp = base.maxHP || battle.statModify(base.baseStats, pokemon.set, 'hp');
		}
	}
	if (now.id !== base.id) pokemon.setSpecies(now, undefined, false);
	if (pokemon.terastallized) pokemon.teraType = pokemon.terastallized;
}

// One of the HP that are shown so.
function setHP(battle, pokemon, condition) {
	if (pokemon.volatiles.dynamax) pokemon.maxhp = Math.floor(pokemon.baseMaxhp * (1.5 + pokemon.dynamaxLevel * 0.05));
	pokemon.hp = pokemon.maxhp;
	if (!condition) return;
	const [shown] = condition.split(' ');
	if (shown === '0') {
		// `faintQueued` stays true of whoever has fainted
		Object.assign(pokemon, { hp: 0, fainted: pokemon.fainted || !pokemon.faintQueued, status: '' });
		return;
	}
	const [left, whole] = shown.split('/').map(parseFloat);
	if (left === whole) return;
	const near = Math.max(1, Math.min(pokemon.maxhp, Math.round(pokemon.maxhp * left / whole)));
	const reach = Math.ceil(pokemon.maxhp / 48) + 1;
	const fitting = [];
	for (let hp = Math.max(1, near - reach); hp <= Math.min(pokemon.maxhp, near + reach); hp++) {
		pokemon.hp = hp;
		if (pokemon.getHealth().shared.split(' ')[0] === shown) fitting.push(hp);
	}
	pokemon.hp = fitting.length ? battle.sample(fitting) : near;
}

function useMoves(pokemon, uses) {
	for (const slot of pokemon.baseMoveSlots) {
		if (!(slot.id in uses)) continue;
		slot.pp = Math.max(0, slot.pp - uses[slot.id]);
	}
}

function setHeld(pokemon, { item, ability }, { lastItem }) {
	if (item !== null) pokemon.item = item;
	if (ability !== null) pokemon.ability = ability;
	pokemon.lastItem = lastItem || '';
	pokemon.itemState.id = pokemon.item;
	pokemon.abilityState.id = pokemon.ability;
	if (!pokemon.isActive) pokemon.ability = pokemon.baseAbility;
}

function setActive(battle, pokemon, seen, { item }, lastHit) {
	const { volatiles } = pokemon;
	if (seen.copied) copyFrom(battle, pokemon, seen.copied);
	for (const slot of seen.learned || []) {
		const place = pokemon.moveSlots.findIndex(each => each.id === 'mimic' || each.id === 'sketch');
		if (place >= 0) pokemon.moveSlots[place] = slot;
	}
	if (seen.types) pokemon.types = seen.types;
	if (seen.addedType) pokemon.addedType = seen.addedType;
	if (pokemon.modifiedStats) setModified(pokemon, seen.halvings);
	if (volatiles.substitute) volatiles.substitute.hp = Math.floor(pokemon.maxhp / 4);
	if (volatiles.bide) {
		const total = toHP(pokemon, volatiles.bide.shown || 0);
		Object.assign(volatiles.bide, { totalDamage: total, damage: total });
	}
	for (const attack of pokemon.attackedBy) attack.damage = attack.damageValue = toHP(pokemon, lastHit && attack.thisTurn && lastHit.shown);
	const lastMove = pokemon.lastMove && pokemon.moveSlots.some(slot => slot.id === pokemon.lastMove.id) && pokemon.lastMove.id;
	if (pokemon.getItem().isChoice && lastMove && battle.gen > 2) add(battle, pokemon, 'choicelock', { move: lastMove });
	if (pokemon.ability === 'gorillatactics' && lastMove) pokemon.abilityState.choiceLock = lastMove;
	if (pokemon.ability === 'unburden' && item === '' && pokemon.set.item) add(battle, pokemon, 'unburden', {});
	if (pokemon.ability === 'truant') pokemon.truantTurn = Boolean(pokemon.moveLastTurnResult !== undefined && lastMove);
}

function add(battle, pokemon, id, fields) {
	pokemon.volatiles[id] = battle.initEffectState({ id, name: id, target: pokemon, ...fields });
}

function toHP(pokemon, shown) {
	return shown > 0 ? Math.max(1, Math.round(pokemon.maxhp * shown)) : 0;
}

// What a Pokémon of the other side has copied is the own side's, which the seat knows.
function copyFrom(battle, pokemon, copied) {
	const { moveSlots, storedStats, modifiedStats, ability, ...plain } = copied;
	Object.assign(pokemon, plain, { moveSlots, transformed: true });
	Object.assign(pokemon.storedStats, storedStats);
	if (modifiedStats) Object.assign(pokemon.modifiedStats, modifiedStats);
	if (battle.gen > 2) {
		pokemon.ability = ability;
		pokemon.abilityState.id = ability;
	}
}

// What of the seat's own Pokémon follows from the other side's.
function setOwn(battle, pokemon, target) {
	if (pokemon.transformed) copyStats(battle, pokemon, target);
	if (battle.gen > 1) return;
	const { partialtrappinglock: lock, fakepartiallytrapped: ended, bide } = pokemon.volatiles;
	for (const wrap of [lock, ended]) if (wrap?.locked) wrap.damage = toHP(wrap.locked, wrap.shown);
	if (bide) bide.damage = toHP(pokemon, bide.shown);
}

// What the own side has copied are stats that nobody tells: those of the sample.
function copyStats(battle, pokemon, target) {
	if (!target || target.species.baseSpecies !== pokemon.species.baseSpecies) {
		target = pokemon.side.foe.pokemon.find(each => each.species.baseSpecies === pokemon.species.baseSpecies);
	}
	const stats = battle.spreadModify(pokemon.species.baseStats, target?.set || pokemon.set);
	for (const stat of Object.keys(pokemon.storedStats)) pokemon.storedStats[stat] = stats[stat];
	if (pokemon.modifiedStats) setModified(pokemon, {});
	if (battle.gen < 5) Object.assign(pokemon, { hpType: target?.hpType, hpPower: target?.hpPower });
}

function setModified(pokemon, times = {}) {
	for (const [stat, stored] of Object.entries(pokemon.storedStats)) {
		pokemon.modifiedStats[stat] = Math.max(1, Math.floor(staged(stored, pokemon.boosts[stat]) / 2 ** (times[stat] || 0)));
	}
}

// What a side does once in a battle.
function spend(battle, side) {
	const isMega = side.pokemon.some(pokemon => pokemon.baseSpecies.isMega);
	const isTera = side.pokemon.some(pokemon => pokemon.terastallized);
	for (const pokemon of side.pokemon) {
		if (isMega) Object.assign(pokemon, { canMegaEvo: false, canMegaEvoX: false, canMegaEvoY: false });
		if (isTera || !side.mayTerastallize) pokemon.canTerastallize = null;
	}
	delete side.mayTerastallize;
}

// In gen 1 a choice is kept when nothing comes of it; what was chosen last is known where it was used.
function setSelected(side, own) {
	const used = side.lastMove?.id || 'nomove';
	side.lastSelectedMove = side.lastEnemySelectedMove = used;
	own.lastEnemySelectedMove = own.lastSelectedMove;
	side.lastSelectedMoveSlot = Math.max(0, side.active[0]?.moveSlots.findIndex(slot => slot.id === used) ?? 0);
}

// A wish that the other side made is half of its HP; a future move of gen 2 to 4 was counted when it was used.
function setSlots(battle, side, other) {
	for (const [i, conditions] of side.slotConditions.entries()) {
		const { wish, futuremove } = conditions;
		if (wish && wish.source?.side.n === other) wish.hp = wish.source.maxhp / 2;
		if (!futuremove?.source || !side.active[i] || futuremove.moveData.damage === undefined) continue;
		const move = Object.assign(battle.dex.getActiveMove(futuremove.move), { willCrit: false, type: '???' });
		futuremove.moveData.damage = battle.actions.getDamage(futuremove.source, side.active[i], move, true) || 1;
	}
}

module.exports = { rebuild };
