// For Node's --require, in an arena's worker (see check_forks.py): every fork tells its seat its whole state as well, in a
// message |state|JSON; and every team may play, legal or not.
'use strict';

const Module = require('module');
const path = require('path');

const load = Module._load;

Module._load = function (request, ...rest) {
	const loaded = load.call(this, request, ...rest);
	if (request.endsWith('team-validator.js')) loaded.TeamValidator.prototype.validateTeam = () => null;
	if (!request.endsWith('forking.js') || loaded.isWatched) return loaded;
	const { State } = require(path.resolve('dist/sim/state.js'));
	const { fork } = loaded;
	loaded.isWatched = true;
	loaded.fork = (source, seat, ...more) => {
		const room = fork(source, seat, ...more);
		room.told[seat].unshift(`|state|${JSON.stringify(State.serializeBattle(room.battle))}`);
		return room;
	};
	return loaded;
};
