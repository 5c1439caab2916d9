// For Node's --require, in an arena's worker: writes the state of every fork to FORK_STATES/<number>.json as it begins,
// and lets every team play, legal or not.
'use strict';

const fs = require('fs');
const Module = require('module');
const path = require('path');

const load = Module._load;
let forks = 0;

Module._load = function (request, ...rest) {
	const loaded = load.call(this, request, ...rest);
	if (request.endsWith('team-validator.js')) loaded.TeamValidator.prototype.validateTeam = () => null;
	if (!request.endsWith('forking.js') || loaded.isWatched) return loaded;
	const { State } = require(path.resolve('dist/sim/state.js'));
	const { fork } = loaded;
	loaded.isWatched = true;
	loaded.fork = (...args) => {
		const room = fork(...args);
		fs.writeFileSync(path.join(process.env.FORK_STATES, `${forks++}.json`), JSON.stringify(State.serializeBattle(room.battle)));
		return room;
	};
	return loaded;
};
